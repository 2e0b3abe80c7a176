"""The flags and values of SPADE's own code that have another name here."""

# the flag here, with its value where a switch chooses one; "": it is always so
OF_SPADE = {
    "batchSize": "batch_size", "nThreads": "num_threads", "preprocess_mode": "preprocess", "niter": "n_epochs",
    "niter_decay": "n_epochs_decay", "which_epoch": "epoch", "how_many": "num_test", "init_variance": "init_gain",
    "resnet_n_downsample": "n_downsample_global", "resnet_n_blocks": "n_blocks_global",
    "tf_log": "displays console,health,html,tensorboard", "load_from_opt_file": "", "cache_filelist_read": "",
    "cache_filelist_write": "", "no_pairing_check": "",
}  # fmt: skip
# {flag: {its value there: the value here, with other flags that it needs}}
VALUES_OF_SPADE: dict[str, dict[str, str]] = {
    "dataset_mode": {
        name: f"semantic --layout {name}" for name in ("coco", "ade20k", "cityscapes", "facades", "custom")
    },
    "preprocess": {"fixed": "fixsize"},
    "gan_mode": {"ls": "lsgan", "original": "vanilla", "w": "wgangp --penalty none"},
    "netG": {"pix2pixhd": "global"},
    "netD": {"multiscale": "spade"},
}
