"""Convert images from their ICC colour profile to sRGB."""

from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms

# Pillow's mode: mode that Little CMS accepts
PROFILE_MODES = {"RGB": "RGB", "RGBA": "RGBA", "L": "L", "LA": "L", "CMYK": "CMYK", "LAB": "LAB"}
MAX_PROFILE_BYTES = 4 << 20  # bytes; larger profiles are ignored


def to_srgb(image: Image.Image) -> Image.Image:
    """Return an image in sRGB; the same image if it has no other profile, or one that cannot be used.

    Alpha is kept. CIE L*a*b* becomes RGB with or without a profile.
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
    assert result is not None  # None is returned only for a transform in place
    if alpha:
        result.putalpha(alpha)
    return result


@lru_cache(maxsize=64)  # most folders hold images of a few cameras
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile (empty: CIE L*a*b*) to sRGB; None if it is not needed or not possible."""
    try:
        srgb = ImageCms.createProfile("sRGB")
        source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        if profile and ImageCms.getProfileDescription(source).strip().startswith("sRGB"):
            return None
        # Little CMS would replace tables and L*a*b* by a coarse grid, with errors of up to 15 levels
        exact = ImageCms.Flags.NONE if source.profile.is_matrix_shaper else ImageCms.Flags.NOOPTIMIZE
        return ImageCms.buildTransform(source, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, exact)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # the image is usable with a damaged profile
        return None
