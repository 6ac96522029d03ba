"""What changes more than one row: keyword-only functions inside transactions, called by views, tasks and commands."""
