"""Colour profiles: pictures of any profile become sRGB."""

from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms

PROFILE_MODES = {
    "RGB": "RGB",
    "RGBA": "RGBA",
    "L": "L",
    "LA": "L",
    "CMYK": "CMYK",
    "LAB": "LAB",
}  # as Little CMS takes them
MAX_PROFILE_BYTES = 4 << 20  # bytes of a profile that is looked at


def to_srgb(image: Image.Image) -> Image.Image:
    """Return a picture whose colours are sRGB: as it is where it has no other profile, or one that cannot be used.

    Alpha stays as it is; CIE L*a*b* becomes RGB with or without a profile.
    """
    profile = image.info.get("icc_profile") or b""
    if image.mode == "P" and profile:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in PROFILE_MODES or not (profile or image.mode == "LAB") or len(profile) > MAX_PROFILE_BYTES:
        return image
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colours = image.convert(PROFILE_MODES[image.mode].rstrip("A")) if alpha else image
    transform = _profile_transform(b"" if image.mode == "LAB" else profile, colours.mode)
    if transform is None:
        return image
    result = ImageCms.applyTransform(colours, transform)
    assert result is not None  # it would be, had it been asked to work in place
    if alpha:
        result.putalpha(alpha)
    return result


@lru_cache(maxsize=64)  # most folders hold pictures of a few cameras
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what takes a profile's colours (of none: CIE L*a*b*) to sRGB; None where nothing need be done, or can."""
    try:
        srgb = ImageCms.createProfile("sRGB")
        source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        if profile and ImageCms.getProfileDescription(source).strip().startswith("sRGB"):
            return None
        # Little CMS would put a coarse grid in the place of tables and of L*a*b*: colours up to 15 levels beside theirs
        exact = ImageCms.Flags.NONE if source.profile.is_matrix_shaper else ImageCms.Flags.NOOPTIMIZE
        return ImageCms.buildTransform(source, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, exact)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile does not cost the picture
        return None
