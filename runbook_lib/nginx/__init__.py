"""nginx's configuration as text: what the host dumped, the edit of your server block, what we render."""
