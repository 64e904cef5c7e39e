"""Conversion to sRGB through ICC profiles."""

import functools
from typing import Any, cast

from PIL import Image, ImageCms

__all__ = ["in_srgb", "srgb_profile"]


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def in_srgb(picture: Image.Image, source: Any) -> Image.Image | None:
    """A picture of 8 bits in sRGB, mode RGB; None if the profile cannot be used.

    Args:
      picture: of any mode that its profile is for.
      source: its ICC profile, as `ImageCms.ImageCmsProfile` takes it.
    """
    try:
        converted = ImageCms.profileToProfile(
            picture,
            ImageCms.ImageCmsProfile(source),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    # Not a valid profile, or one for another kind of picture.
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    return cast(Image.Image, converted)
