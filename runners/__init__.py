"""Orchestration of the other rooms."""

from arguments import check_rooms as check_rooms  # if another `arguments` is imported, this error names its file
