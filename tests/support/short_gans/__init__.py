"""GANs that use what a plug-in may use: one file for each part of the contract."""
