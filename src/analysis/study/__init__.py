"""What is to be measured: a study file becomes arms, cells and launches. Nothing is started here."""
