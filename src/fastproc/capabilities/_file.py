"""The capabilities of a file: parsing and formatting the bytes of its `security.capability` attribute. Pure.

The bytes are struct vfs_cap_data or vfs_ns_cap_data of <linux/capability.h>, in little endian: a word with version and
flags, then for each 32 capabilities a word of permitted and a word of inheritable ones, then, in version 3, the root
user of the user namespace.
"""

from __future__ import annotations

from fastproc._values.capabilities import CapabilitySet, as_set

XATTR = "security.capability"
ROOTID_MAX = 2**32 - 2
_EFFECTIVE = 1
_VERSION_SHIFT = 24
_WORDS = {1: 1, 2: 2, 3: 2}
_SIZES = {1: 12, 2: 20, 3: 24}


class FileCapabilities:
    """The capabilities that a process gets when it executes a file (capabilities(7), "File capabilities"). Immutable.

    Attributes:
        permitted: capabilities that the new program gets, limited by the bounding set.
        inheritable: capabilities that the new program gets if they are inheritable in the process.
        effective: whether these capabilities are effective at once: one bit for the whole file.
        rootid: the uid, in this user namespace, of the root user of the user namespace in which the capabilities count;
            0 for the namespace of the file system.
        version: 1 (32 capabilities), 2, or 3 (with rootid).
    """

    __module__ = "fastproc.capabilities"

    __slots__ = ("effective", "inheritable", "permitted", "rootid", "version")

    permitted: CapabilitySet
    inheritable: CapabilitySet
    effective: bool
    rootid: int
    version: int

    def __init__(
        self,
        permitted: object = (),
        inheritable: object = (),
        effective: bool = True,
        rootid: int = 0,
        version: int | None = None,
    ) -> None:
        """Check and store the sets.

        Args:
            permitted: a value that CapabilitySet() accepts.
            inheritable: a value that CapabilitySet() accepts.
            effective: see the attributes.
            rootid: see the attributes.
            version: None: 3 if `rootid` is given, otherwise 2.

        Raises:
            ValueError: `rootid` is not a uid, or the version cannot hold it; the version cannot hold a capability.
            TypeError: an argument has the wrong type.
        """
        sets = as_set("permitted", permitted), as_set("inheritable", inheritable)
        if not isinstance(effective, bool):
            raise TypeError(f"effective: must be True or False, not {effective!r}")
        if isinstance(rootid, bool) or not isinstance(rootid, int):
            raise TypeError(f"rootid: must be a number, not {rootid!r}")
        if not 0 <= rootid <= ROOTID_MAX:
            raise ValueError(f"rootid: {rootid} is not in the range 0 to {ROOTID_MAX}")
        if version is None:
            version = 3 if rootid else 2
        if version not in _SIZES:
            raise ValueError(f"version: {version!r} is none of 1, 2, 3")
        if rootid and version != 3:
            raise ValueError(f"rootid: version {version} has no rootid")
        beyond = (sets[0] | sets[1]).mask >> 32 * _WORDS[version]
        if beyond:
            raise ValueError(f"version: 1 holds the first 32 capabilities only, not {sets[0] | sets[1]}")
        for name, value in zip(("permitted", "inheritable"), sets, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "effective", effective)
        object.__setattr__(self, "rootid", rootid)
        object.__setattr__(self, "version", version)

    @classmethod
    def from_bytes(cls, data: bytes) -> FileCapabilities:
        """Parse the bytes of the attribute.

        Raises:
            ValueError: the version is unknown, or the size does not match it.
        """
        magic = int.from_bytes(data[:4], "little")
        version = magic >> _VERSION_SHIFT
        if len(data) < 4 or version not in _SIZES:
            raise ValueError(f"{XATTR}: no version 1, 2 or 3: {data[:32].hex(' ')}")
        if len(data) != _SIZES[version]:
            raise ValueError(f"{XATTR}: version {version} has {_SIZES[version]} bytes, not {len(data)}")
        words = [int.from_bytes(data[at : at + 4], "little") for at in range(4, len(data), 4)]
        permitted = inheritable = 0
        for index in range(_WORDS[version]):
            permitted |= words[2 * index] << 32 * index
            inheritable |= words[2 * index + 1] << 32 * index
        rootid = words[4] if version == 3 else 0
        sets = CapabilitySet.from_mask(permitted), CapabilitySet.from_mask(inheritable)
        return cls(*sets, bool(magic & _EFFECTIVE), rootid, version)

    def to_bytes(self) -> bytes:
        """Return the bytes of the attribute."""
        words = [self.version << _VERSION_SHIFT | (_EFFECTIVE if self.effective else 0)]
        for index in range(_WORDS[self.version]):
            words += [some.mask >> 32 * index & 0xFFFFFFFF for some in (self.permitted, self.inheritable)]
        if self.version == 3:
            words.append(self.rootid)
        return b"".join(word.to_bytes(4, "little") for word in words)

    def _key(self) -> tuple[object, ...]:
        return self.permitted, self.inheritable, self.effective, self.rootid, self.version

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"FileCapabilities are immutable: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"FileCapabilities are immutable: {name}")

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, FileCapabilities) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        fields = ("permitted", "inheritable", "effective", "rootid", "version")
        return f"FileCapabilities({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"

    def __reduce__(self) -> tuple[object, ...]:
        return FileCapabilities, self._key()
