"""The flags of pix2pixHD's own code that have another name here."""

# the flag here, with its value where a switch chooses one; "": it is always so
OF_PIX2PIXHD = {
    "batchSize": "batch_size", "loadSize": "load_size", "fineSize": "crop_size", "nThreads": "num_threads",
    "resize_or_crop": "preprocess", "niter": "n_epochs", "niter_decay": "n_epochs_decay", "which_epoch": "epoch",
    "how_many": "num_test", "load_pretrain": "init_from", "no_lsgan": "gan_mode vanilla", "fp16": "amp fp16",
    "tf_log": "displays console,health,html,tensorboard", "use_encoded_image": "",
}  # fmt: skip
