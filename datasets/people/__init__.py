"""Rendered people: exact factors → mesh → picture. Drawing needs the packages of the extra `people`."""
