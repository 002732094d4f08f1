"""What `retention` removes: `expire`."""
