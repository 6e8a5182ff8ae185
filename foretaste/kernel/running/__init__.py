"""What every long-lived process has: log lines of one form, a readiness, and tasks that do not end unseen."""
