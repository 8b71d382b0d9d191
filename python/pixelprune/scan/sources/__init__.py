"""Where images come from: each file reads one kind of source and yields its images in a fixed order."""
