"""Pictures that one chapter draws and that are too long for a cell.

Every function returns a matplotlib figure and shows nothing.
"""
