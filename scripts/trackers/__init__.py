"""The checks of scripts/check_trackers.py."""
