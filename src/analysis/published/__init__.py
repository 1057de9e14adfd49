"""What others published: the numbers, the claims, and whether they can be true."""
