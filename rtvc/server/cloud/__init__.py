"""What a server on EC2 does beside serving: it tells how full it is, and leaves in good order."""
