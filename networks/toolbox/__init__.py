"""What any model may be trained with: spectral norm, augmentation of a discriminator's images, LeCam, ADA."""
