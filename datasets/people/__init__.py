"""Rendered people: exact factors → mesh → image. Drawing needs the packages of the extra `people`."""
