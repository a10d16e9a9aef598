"""What is in the local S3 store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from emulator.api.control.bodies import Deleted, StoredObject, StoreView
from emulator.api.control.controls import ControlError
from emulator.api.control.given import Given

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls
    from emulator.s3.store import LocalStore


router = APIRouter()


@router.get("/s3")
async def objects(controls: Given) -> StoreView:
    """The objects in the S3 store that `--s3` starts; its keys are not shown."""
    store = _store(controls)
    found = [StoredObject.model_validate(each) for each in await store.objects()]
    return StoreView(endpoint_url=store.url, bucket=store.bucket, pid=store.process_id, objects=found)


@router.delete("/s3")
async def clear(controls: Given) -> Deleted:
    """Remove all objects."""
    return Deleted(deleted=await _store(controls).clear())


def _store(controls: Controls) -> LocalStore:
    if controls.store is None:
        raise ControlError(404, "not_found", "there is no S3 store", "start the emulator with --s3")
    return controls.store
