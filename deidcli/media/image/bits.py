"""Numbers of any number of bits, as the headers of HEVC and AV1 hold them."""

from __future__ import annotations

from deidcli.errors import MediaError


class Bits:
    """Reads bits from the first on. Raises MediaError behind the last."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> int:
        """The next `count` bits as one number, the highest first."""
        end = self.at + count
        if end > 8 * len(self.data):
            raise MediaError("the headers of the picture are damaged", "get a whole copy of the file")
        whole = int.from_bytes(self.data[self.at // 8 : (end + 7) // 8], "big")
        self.at = end
        return whole >> (-end % 8) & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.take(1))

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number (ue(v) of HEVC); the same bits as uvlc() of AV1."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise MediaError("the headers of the picture are damaged", "get a whole copy of the file")
        return (1 << zeros) - 1 + self.take(zeros)

    def read(self) -> bytes:
        """What was read so far, ended as both formats end a header: a bit 1, and zeros up to a whole byte."""
        whole = int.from_bytes(self.data[: (self.at + 7) // 8], "big") >> (-self.at % 8)
        count = self.at + 1
        return ((whole << 1 | 1) << (-count % 8)).to_bytes((count + 7) // 8, "big")
