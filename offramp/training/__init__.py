"""Training: backbones from scratch with early-exit losses, and exits on a frozen backbone."""
