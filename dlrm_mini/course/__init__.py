"""The course as files: finding, running, writing, checking and editing its notebooks."""
