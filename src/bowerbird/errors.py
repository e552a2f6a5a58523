"""Everything that can go wrong, as one tree.

    BowerbirdError
      + InvalidInput             the caller sent something wrong; sending it again will not help
      |   - ArgumentInvalid      a field has a value that is not allowed
      |   - ImageDecodeFailed    the bytes are not a picture we can read
      |   - ImageTooLarge        more bytes or pixels than the limit
      |   - RegionOutOfRange     a region is empty, inverted or outside the picture
      |   - VectorInvalid        wrong dimension, data type, byte count, or a value that is not finite
      |   - FilterInvalid        unknown field, wrong value type, or malformed clause
      |   - PageTokenInvalid     not a token we gave, or other fields of the request changed
      + NotFound
      |   - IndexNotFound  ItemNotFound  ModelNotFound  SnapshotNotFound
      |   - ImageTokenExpired    the picture has to be sent again
      + AlreadyExists
      |   - IndexExists
      + FailedPrecondition       the state must change first
      |   - ModelIndexMismatch   the index holds vectors of another model
      |   - FieldTypeMismatch    the field was first written with another type
      |   - IndexChanged         the index was written to since the caller looked
      + Overloaded               try again later; nothing was done
      |   - QueueFull  ConcurrencyLimit
      + StorageFull              the disk is full; nothing was written
      + DeadlineExceeded
      |   - ExpiredInQueue       the deadline passed before computing began
      |   - SequenceNotReached   min_sequence is not visible yet
      + Unavailable              not now, another replica may do
      |   - Draining  NotReady  DependencyDown
      |   - PackageUnavailable   a package of open data cannot be had here; raised by the fetcher, never over the wire
      + Cancelled
      + Unauthenticated          TOKEN_INVALID
      + PermissionDenied         ROLE_MISSING
      + DataLoss                 a file on disk is not what was written; nothing was loaded from it
      |   - StoreCorrupt  SnapshotCorrupt  ModelFileCorrupt
      |   - ArchiveRefused       a fetched archive is damaged, altered or unsafe; never over the wire
      + Internal                 our fault
      |   - InferenceFailed
      + ConfigInvalid            raised at start only, never over the wire

A message says what was expected, what came, and what to do. `reason` is the stable, machine-readable name
on the wire (`google.rpc.ErrorInfo.reason`); `bowerbird.rpc.status` maps each class to its status code.
"""

from __future__ import annotations

from typing import ClassVar


class BowerbirdError(Exception):
    """Base of all errors that Bowerbird raises on purpose."""

    reason: ClassVar[str] = ""

    def __init__(self, message: str, *, field: str = "", retry_after_s: float | None = None) -> None:
        """
        Args:
            message: what was expected, what came, what to do.
            field: path of the request field at fault, e.g. `query.embedding`; empty if none.
            retry_after_s: seconds after which trying again makes sense; None if never.
        """
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidInput(BowerbirdError):
    """The caller sent something wrong."""


class ArgumentInvalid(InvalidInput):
    """A field has a value that is not allowed."""

    reason = "ARGUMENT_INVALID"


class ImageDecodeFailed(InvalidInput):
    """The bytes are not a picture we can read."""

    reason = "IMAGE_DECODE_FAILED"


class ImageTooLarge(InvalidInput):
    """The picture has more bytes or pixels than the limit."""

    reason = "IMAGE_TOO_LARGE"


class RegionOutOfRange(InvalidInput):
    """A region is empty, inverted, not finite or outside the picture."""

    reason = "REGION_OUT_OF_RANGE"


class VectorInvalid(InvalidInput):
    """A vector has the wrong dimension, data type or byte count, or a value that is not finite."""

    reason = "VECTOR_INVALID"


class FilterInvalid(InvalidInput):
    """A filter names an unknown field, compares with a wrong type, or is malformed."""

    reason = "FILTER_INVALID"


class PageTokenInvalid(InvalidInput):
    """The page token was not given by us, or belongs to another request."""

    reason = "PAGE_TOKEN_INVALID"


class NotFound(BowerbirdError):
    """The thing that was named does not exist."""


class IndexNotFound(NotFound):
    """No index has this name."""

    reason = "INDEX_NOT_FOUND"


class ItemNotFound(NotFound):
    """No item has this id."""

    reason = "ITEM_NOT_FOUND"


class ModelNotFound(NotFound):
    """No served model has this name."""

    reason = "MODEL_NOT_FOUND"


class SnapshotNotFound(NotFound):
    """No snapshot has this id."""

    reason = "SNAPSHOT_NOT_FOUND"


class ImageTokenExpired(NotFound):
    """The picture behind this token is gone; send the picture again."""

    reason = "IMAGE_TOKEN_EXPIRED"


class AlreadyExists(BowerbirdError):
    """The name is taken."""


class IndexExists(AlreadyExists):
    """An index of this name exists already, and differs."""

    reason = "INDEX_EXISTS"


class FailedPrecondition(BowerbirdError):
    """The state must change before this can work."""


class ModelIndexMismatch(FailedPrecondition):
    """The index holds vectors of another model or shape."""

    reason = "MODEL_INDEX_MISMATCH"


class FieldTypeMismatch(FailedPrecondition):
    """The field was first written with another type."""

    reason = "FIELD_TYPE_MISMATCH"


class IndexChanged(FailedPrecondition):
    """The index was written to since the caller looked."""

    reason = "INDEX_CHANGED"


class Overloaded(BowerbirdError):
    """More work than we can take now; nothing was done."""


class QueueFull(Overloaded):
    """The batch queue is full."""

    reason = "QUEUE_FULL"


class ConcurrencyLimit(Overloaded):
    """More calls at once than this server takes."""

    reason = "CONCURRENCY_LIMIT"


class StorageFull(BowerbirdError):
    """The disk is full; nothing was written and the store is intact."""

    reason = "STORAGE_FULL"


class DeadlineExceeded(BowerbirdError):
    """The deadline of the call has passed."""

    reason = "DEADLINE_EXCEEDED"


class ExpiredInQueue(DeadlineExceeded):
    """The deadline passed before computing began."""

    reason = "EXPIRED_IN_QUEUE"


class SequenceNotReached(DeadlineExceeded):
    """The asked-for write is not visible yet."""

    reason = "SEQUENCE_NOT_REACHED"


class Unavailable(BowerbirdError):
    """This server cannot answer now; another may."""


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class NotReady(Unavailable):
    """The server has not finished starting."""

    reason = "NOT_READY"


class DependencyDown(Unavailable):
    """A service that this one needs does not answer."""

    reason = "DEPENDENCY_DOWN"


class PackageUnavailable(Unavailable):
    """A package of open data, or the client or library that reads it, is not to be had on this machine."""

    reason = "PACKAGE_UNAVAILABLE"


class Cancelled(BowerbirdError):
    """The client gave up."""

    reason = "CLIENT_CANCELLED"


class Unauthenticated(BowerbirdError):
    """The bearer token is missing or unknown."""

    reason = "TOKEN_INVALID"


class PermissionDenied(BowerbirdError):
    """The token does not carry the role that this call needs."""

    reason = "ROLE_MISSING"


class DataLoss(BowerbirdError):
    """A file on disk is not what was written; nothing was loaded from it."""


class StoreCorrupt(DataLoss):
    """The item store fails its integrity check."""

    reason = "STORE_CORRUPT"


class SnapshotCorrupt(DataLoss):
    """The snapshot file fails its checksum."""

    reason = "SNAPSHOT_CORRUPT"


class ModelFileCorrupt(DataLoss):
    """A model file of the zoo fails its checksum or cannot be parsed."""

    reason = "MODEL_FILE_CORRUPT"


class ArchiveRefused(DataLoss):
    """A fetched archive has another checksum than pinned, is damaged, or would write where it must not."""

    reason = "ARCHIVE_REFUSED"


class Internal(BowerbirdError):
    """A fault of ours; the log has the stack under the request id."""

    reason = "BUG"


class InferenceFailed(Internal):
    """The model runtime failed on this input."""

    reason = "INFERENCE_FAILED"


class ConfigInvalid(BowerbirdError):
    """A setting is unknown or has a wrong value; the message names it."""

    reason = "CONFIG_INVALID"
