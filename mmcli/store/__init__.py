"""The feature store: the HDF5 file that the stages hand on (schema 1)."""

from mmcli.store.join import JoinedBag, Stores
from mmcli.store.parts import Instances, Label, Patients, Source, Table
from mmcli.store.read import Store, is_store, store_request, verify
from mmcli.store.spool import Spool, spool_folder, spool_request
from mmcli.store.write import BagData, BagMeta, Imputation, write_store

__all__ = [
    "BagData", "BagMeta", "Imputation", "Instances", "JoinedBag", "Label", "Patients", "Source", "Spool", "Store",
    "Stores", "Table", "is_store", "spool_folder", "spool_request", "store_request", "verify", "write_store",
]  # fmt: skip
