"""Tracking: faces of a video followed from frame to frame, cuts found, boxes smoothed."""
