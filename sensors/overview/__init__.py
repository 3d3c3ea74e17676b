"""What people look at: arrivals, inboxes and days at a glance, for the terminal and for the page."""
