"""What a state's tabs show."""

from vtlfs.tui.panes.live import Live
from vtlfs.tui.panes.pane import Pane
from vtlfs.tui.panes.sessions import Sessions
from vtlfs.tui.panes.tables import DiskRow, Disks, DriveRow, Drives, Media

__all__ = ["DiskRow", "Disks", "DriveRow", "Drives", "Live", "Media", "Pane", "Sessions"]
