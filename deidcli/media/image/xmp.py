"""XMP packets without the pictures that are packed into them."""

from __future__ import annotations

from xml.etree import ElementTree

from deidcli.media.metadata import holds_picture

_PICTURES = ("Thumbnails", "PageInfo", "GImage", "Data", "Container", "Directory", "HasExtendedXMP")
_NAMESPACES = (
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.google.com/photos/",
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
)
_ORIENTATION = "{http://ns.adobe.com/tiff/1.0/}Orientation"
_LONGEST = 4096
_HEAD = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = b'\n<?xpacket end="w"?>'


def scrubbed(packet: bytes) -> bytes | None:
    """The packet without thumbnails, gain maps, depth maps, long opaque values and orientation.

    None where it cannot be read: what cannot be read cannot be checked. Declarations of entities are refused.
    """
    try:
        text = packet.decode("utf-8-sig").strip("\0 \r\n\t")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError):
        return None
    _cut(root)
    return _HEAD + ElementTree.tostring(root, encoding="utf-8", xml_declaration=False) + _TAIL


def _cut(element: ElementTree.Element) -> None:
    for name in [name for name, value in element.attrib.items() if _unwanted(name, value)]:
        del element.attrib[name]
    for child in [child for child in element if _unwanted(child.tag, child.text or "")]:
        element.remove(child)
    if len(element):
        # Text beside elements has no meaning here.
        element.text = None
    for child in element:
        child.tail = None
        # A list entry that is itself a picture in base64 has a harmless name.
        _cut(child)


def _unwanted(name: object, value: str) -> bool:
    if not isinstance(name, str) or len(value) > _LONGEST or holds_picture(value.encode("utf-8", "replace")):
        return True
    space, _, local = name.rpartition("}")
    return local in _PICTURES or name == _ORIENTATION or space[1:].startswith(_NAMESPACES)
