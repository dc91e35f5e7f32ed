"""What people see: banner, tables, plots, pages."""
