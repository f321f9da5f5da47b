"""When Lightning's callbacks look at a figure."""

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint


def look_after_validations(callback: Callback) -> None:
    """Has Lightning's EarlyStopping and ModelCheckpoint look after each validation, if their arguments leave it open.

    Lightning decides that itself at the beginning of a fit, from `val_check_interval`, which lmtrain does not use: they
    would look at the end of an epoch only.
    """
    if isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end is None:
        callback._check_on_train_epoch_end = False
    if isinstance(callback, ModelCheckpoint) and callback._save_on_train_epoch_end is None:
        callback._save_on_train_epoch_end = False
