"""Has Lightning's callbacks look at a figure after validations, not after epochs."""

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint


def look_after_validations(callback: Callback) -> None:
    """Has an EarlyStopping or ModelCheckpoint look after each validation, if its arguments leave that open.

    Lightning would decide by `val_check_interval`, which lmtrain does not use, that they look after epochs only.
    """
    if isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end is None:
        callback._check_on_train_epoch_end = False
    if isinstance(callback, ModelCheckpoint) and callback._save_on_train_epoch_end is None:
        callback._save_on_train_epoch_end = False
