"""GANs unlike the built-in ones, as plug-ins that tests train, continue and test."""
