"""Camera noise: added in the sensor's domain, then processed like the rest of the picture.

A photograph is unprocessed to the Bayer mosaic of a sensor, gets signal-dependent noise
(Poisson-Gaussian), and is developed again: demosaicing, white balance, colour matrix, gamma, tone
curve and slight smoothing (Brooks et al., Unprocessing Images for Learned Raw Denoising, CVPR
2019). Only the difference made by the noise is added to the photograph, which therefore keeps its
sharpness (as in CBDNet; Guo et al., CVPR 2019). All camera parameters are drawn at random.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Real

from hypernet_jax.degradations.blur import gaussian_weights, weighted_neighbours

__all__ = ["camera_noise", "photo_noise"]

# Share of images that get white noise from `photo_noise`.
_WHITE_SHARE = 0.25
# Side of the flat grey patch on which the noise is measured; the width of its edge, where less of
# it is smoothed away, which is not measured; and the margin around the image that is cropped off at
# the end.
_PATCH, _EDGE, _BORDER = 48, 6, 10
# Radius of the simulated noise reduction, in pixels.
_NEAR = 2
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Noise whose deviation exceeds this, for an image in [0, 1], was not strongly smoothed.
_STRONGLY_SMOOTHED = 20 / 255


# Also where JAX counts in 64 bits.
_normal = functools.partial(jax.random.normal, dtype=jnp.float32)
_uniform = functools.partial(jax.random.uniform, dtype=jnp.float32)


def _bernoulli(key: jax.Array, p: float, shape: tuple[int, ...] = ()) -> jax.Array:
    return jax.random.bernoulli(key, jnp.float32(p), shape)


class _Camera(NamedTuple):
    """Parameters of a camera's processing; scalars except for the matrix and gains.

    Attributes:
      gamma, tone: 0 or 1, whether there is an sRGB gamma, and a tone curve after it.
      phase: (2,), 0 or 1, row and column of the sensor's first red pixel.
      matrix: (3, 3), from sensor colours to picture colours; rows sum to 1.
      gains: (3,), white balance and exposure.
      luma_sigma, chroma_sigma: smoothing of luminance and chrominance, in pixels.
      sharpening: of luminance, the factor of what a Gaussian of one pixel removes; 0 for none.
      chroma_share: the share of chrominance noise that the camera leaves, 0 to 1.
      similar: of noise reduction, the difference in luminance of pixels that are averaged, in
        deviations of the noise; 0 for none.
    """

    gamma: jax.Array
    tone: jax.Array
    phase: jax.Array
    matrix: jax.Array
    gains: jax.Array
    luma_sigma: jax.Array
    chroma_sigma: jax.Array
    sharpening: jax.Array
    chroma_share: jax.Array
    similar: jax.Array


def _drawn_camera(key: jax.Array, deviation: jax.Array, smooth: float, coarse: float) -> _Camera:
    """A random camera for noise of a deviation; `smooth` and `coarse` as for `camera_noise`."""
    keys = jax.random.split(key, 16)
    gamma = _bernoulli(keys[0], 0.65).astype(jnp.float32)
    tone = gamma * _bernoulli(keys[1], 0.5)
    # A quarter of the pictures keep the sensor's own colours and all of their noise. In the others,
    # some of the other colours are subtracted from each, because the sensor's filters overlap.
    raw = _bernoulli(keys[9], 0.25)
    overlap = jnp.where(raw, 0.0, 0.45)
    # Some of the others smooth luminance strongly; little of its fine noise is left to sharpen.
    strong = _bernoulli(keys[12], smooth) & ~raw & (deviation < _STRONGLY_SMOOTHED)
    # Some, of these too, leave little noise of colours, and only the coarsest.
    little = _bernoulli(keys[13], coarse) & ~raw
    mixed = overlap * _uniform(keys[2], (3, 3)) * (1 - jnp.eye(3, dtype=jnp.float32))
    matrix = jnp.eye(3, dtype=jnp.float32) * (1.0 + mixed.sum(axis=1, keepdims=True)) - mixed
    balance = _uniform(
        keys[3], (3,), minval=jnp.array([1.9, 1.0, 1.5]), maxval=jnp.array([2.4, 1.0001, 1.9])
    )
    exposure = jnp.clip(0.8 + 0.1 * _normal(keys[4]), 0.5, 1.1)
    return _Camera(
        gamma,
        tone,
        # A network with strides would learn the phase if all cameras had the same.
        _bernoulli(keys[10], 0.5, (2,)).astype(jnp.int32),
        matrix,
        balance / exposure,
        luma_sigma=_uniform(keys[5]) + strong,
        chroma_sigma=jnp.where(
            little,
            _uniform(keys[14], minval=1.5, maxval=4.0),
            _uniform(keys[6]) * jnp.where(raw, 0.5, 3.0),
        ),
        # A third of the remaining cameras sharpen, or interpolate so that more fine noise is left.
        sharpening=jnp.where(
            strong,
            0.0,
            jnp.maximum(0.0, _uniform(keys[8], minval=-2.4, maxval=1.2)),
        ),
        # Four in ten of the remaining cameras reduce it.
        chroma_share=jnp.where(
            little,
            _uniform(keys[15], minval=0.05, maxval=0.5),
            jnp.where(raw, 1.0, jnp.minimum(1.0, _uniform(keys[7], minval=0.1, maxval=1.8))),
        ),
        # Half of the others average similar pixels, so that noise is left in texture and follows
        # its edges.
        similar=jnp.where(raw, 0.0, jnp.maximum(0.0, _uniform(keys[11], minval=-2.0, maxval=2.0))),
    )


def _encoded(linear: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The sRGB gamma, extended as an odd function so that noise around black keeps its mean."""
    size = jnp.abs(linear)
    curve = 1.055 * jnp.maximum(size, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.sign(linear) * jnp.where(size < 0.0031308, 12.92 * size, curve)


def _decoded(encoded: Float[Array, "*n"]) -> Float[Array, "*n"]:
    curve = ((jnp.maximum(encoded, 0.04045) + 0.055) / 1.055) ** 2.4
    return jnp.where(encoded < 0.04045, encoded / 12.92, curve)


def _toned(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """A smooth step on [0, 1], extended linearly with a small slope."""
    inside = jnp.clip(x, 0.0, 1.0)
    return 3 * inside**2 - 2 * inside**3 + 0.3 * (x - inside)


def _untoned(y: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return 0.5 - jnp.sin(jnp.arcsin(1.0 - 2.0 * jnp.clip(y, 0.0, 1.0)) / 3.0)


def _to_sensor(camera: _Camera, image: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Linear sensor values from a picture in [0, 1]; (H, W, 3)."""
    linear = jnp.where(camera.tone > 0, _untoned(image), image)
    linear = jnp.where(camera.gamma > 0, _decoded(linear), linear)
    return (linear @ jnp.linalg.inv(camera.matrix).T) / camera.gains


def _to_picture(camera: _Camera, sensor: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    linear = (sensor * camera.gains) @ camera.matrix.T
    encoded = jnp.where(camera.gamma > 0, _encoded(linear), linear)
    return jnp.where(camera.tone > 0, _toned(encoded), encoded)


def _mosaic_masks(camera: _Camera, height: int, width: int) -> Float[Array, "h w 3"]:
    """Masks of the pixels where a Bayer sensor has each colour, (H, W, 3)."""
    row = (jnp.arange(height)[:, None] + camera.phase[0]) % 2
    column = (jnp.arange(width)[None] + camera.phase[1]) % 2
    red, blue = (row == 0) & (column == 0), (row == 1) & (column == 1)
    return jnp.stack([red, ~(red | blue), blue], axis=-1).astype(jnp.float32)


def _weighted(image: jax.Array, weights: jax.Array) -> jax.Array:
    """The separable weighted sum of neighbours along rows and columns."""
    for axis in (0, 1):
        image = weighted_neighbours(image, weights, axis)
    return image


def _interpolated(camera: _Camera, mosaic: Float[Array, "h w"]) -> Float[Array, "h w 3"]:
    """Bilinear demosaicing; (H, W, 3)."""
    masks = _mosaic_masks(camera, *mosaic.shape)
    weights = jnp.array([0.5, 1.0, 0.5], jnp.float32)
    held = _weighted(mosaic[..., None] * masks, weights)
    filled = held / _weighted(masks, weights)
    return jnp.where(masks > 0, mosaic[..., None], filled)


def _similar_averaged(luma: Float[Array, "h w"], reach: Float[Array, ""]) -> Float[Array, "h w"]:
    """A bilateral filter of 5x5 pixels: a weight falls to exp(-1/2) at the difference `reach`.

    At `reach` 0 only equal values are averaged, which changes nothing.
    """
    padded = jnp.pad(luma, _NEAR, mode="edge")
    height, width = luma.shape
    total, weights = jnp.zeros_like(luma), jnp.zeros_like(luma)
    for down in range(2 * _NEAR + 1):
        for right in range(2 * _NEAR + 1):
            other = padded[down : down + height, right : right + width]
            weight = jnp.exp(-0.5 * jnp.square((other - luma) / jnp.maximum(reach, 1e-6)))
            total, weights = total + weight * other, weights + weight
    return total / weights


def _reduced(
    camera: _Camera,
    change: Float[Array, "h w 3"],
    image: Float[Array, "h w 3"],
    deviation: Float[Array, ""],
) -> Float[Array, "h w 3"]:
    """The noise with its luminance and, more strongly, its chrominance reduced, as cameras do.

    `deviation` is that of its luminance at mid-grey.
    """
    of_image, luma = image @ _LUMA, change @ _LUMA
    chroma = _weighted(change - luma[..., None], gaussian_weights(camera.chroma_sigma, 7))
    reach = camera.similar * deviation
    more, less = (_similar_averaged(of_image + way * luma, reach) for way in (1, -1))
    luma = (more - less)[..., None] / 2
    fine = camera.sharpening * (luma - _weighted(luma, gaussian_weights(1.0, 3)))
    smooth = _weighted(luma, gaussian_weights(camera.luma_sigma, 6))
    return smooth + fine + camera.chroma_share * chroma


def _developed(
    key: jax.Array, camera: _Camera, image: jax.Array, shot: jax.Array, read: jax.Array
) -> jax.Array:
    """The change that noise makes in a picture (H, W, 3) in [0, 1], before it is reduced.

    Args:
      key: PRNG key of the noise.
      camera: the camera's parameters.
      image: the picture without noise.
      shot, read: variance of the noise per unit of light, and without light.
    """
    light = jnp.sum(_to_sensor(camera, image) * _mosaic_masks(camera, *image.shape[:2]), axis=-1)
    deviation = jnp.sqrt(shot * jnp.maximum(light, 0.0) + read)
    noise = deviation * _normal(key, light.shape)
    # Half of the difference between adding and subtracting the same noise. Its mean is zero, as
    # in clean photographs averaged from many shots; otherwise gamma would darken dark areas.
    more, less = (
        _to_picture(camera, _interpolated(camera, light + way * noise)) for way in (1, -1)
    )
    return (more - less) / 2


def _of_one(
    key: Key[Array, ""],
    image: Float[Array, "h w 3"],
    deviation: Float[Array, ""],
    smooth: float,
    coarse: float,
) -> Float[Array, "h w 3"]:
    """The change that noise makes in one picture (H, W, 3) in [0, 1]; deviation in that unit."""
    camera_key, read_key, patch_key, noise_key = jax.random.split(key, 4)
    camera = _drawn_camera(camera_key, deviation, smooth, coarse)
    # The variance of read noise grows faster than that of shot noise.
    shot = 0.01 * (255.0 / 18.0 * jnp.maximum(deviation, 1e-4)) ** 2.3
    read = jnp.exp(2.18 * jnp.log(shot) + 1.2 + 0.26 * _normal(read_key))
    # Measures the noise at mid-grey, where the level is defined, and scales it to be right there.
    grey = jnp.full((_PATCH, _PATCH, 3), 0.5, jnp.float32)

    def measured(_, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        strength, _ = found
        change = _developed(patch_key, camera, grey, strength * shot, strength * read)
        luma = jnp.std(change @ _LUMA)
        reduced = _reduced(camera, change, grey, luma)
        inner = reduced[_EDGE:-_EDGE, _EDGE:-_EDGE]
        ratio = deviation / jnp.maximum(jnp.std(inner), 1e-6)
        return strength * jnp.square(ratio), luma * ratio

    # Three times, because the response is nearly, but not exactly, proportional.
    start = (jnp.float32(1.0), jnp.float32(0.0))
    strength, luma = jax.lax.fori_loop(0, 3, measured, start)
    around = ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0))
    padded = jnp.pad(image, around, mode="symmetric")
    change = _developed(noise_key, camera, padded, strength * shot, strength * read)
    change = _reduced(camera, change, padded, luma)
    return change[_BORDER:-_BORDER, _BORDER:-_BORDER]


def _limited(image: Float[Array, "*n"], change: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Noise with zero mean, limited on both sides where it would leave the range of 8 bits.

    In photographs the noise of black and white areas is weak, and they keep their mean; a network
    that learned from noise folded at black would darken shadows.
    """
    room = jnp.minimum(image, 255.0 - image)
    return jnp.clip(change, -room, room)


def camera_noise(
    key: Key[Array, ""],
    image: Real[ArrayLike, "*n h w c"],
    deviation: Real[ArrayLike, ""],
    *,
    smooth: float = 0.0,
    coarse: float = 0.0,
) -> Float32[Array, "*n h w c"]:
    """Adds the noise of a randomly drawn camera.

    Args:
      key: PRNG key of the camera and the noise.
      image: (..., H, W, C), 0 to 255, C = 3 or 1.
      deviation: standard deviation of the noise at mid-grey, over the three channels, in 8-bit
        grey levels; scalar. It differs elsewhere, because noise grows with the light.
      smooth: share, 0 to 1, of the cameras with a colour matrix that smooth the luminance of noise
        below level 20 strongly (sigma 1 to 2).
      coarse: share, 0 to 1, of them that leave 5 to 50 % of the noise of colours, smoothed with
        sigma 1.5 to 4.

    Returns:
      float32 of the image's shape, 0 to 255, not rounded. Grey images get the luminance of the
      noise, whose deviation is 0.7 of that of the three channels on average.
    """
    image = jnp.asarray(image, jnp.float32)
    flat = image.reshape((-1, *image.shape[-3:]))
    deviation = jnp.asarray(deviation, jnp.float32) / 255.0

    def noisy(key, one):
        colour = jnp.broadcast_to(one, (*one.shape[:2], 3)) / 255.0
        change = 255.0 * _of_one(key, colour, deviation, smooth, coarse)
        if one.shape[-1] == 1:
            change = (change @ _LUMA)[..., None]
        return one + _limited(one, change)

    keys = jax.random.split(key, len(flat))
    return jax.vmap(noisy)(keys, flat).reshape(image.shape)


def photo_noise(
    key: Key[Array, ""],
    image: Real[ArrayLike, "*n h w c"],
    deviation: Real[ArrayLike, ""],
    *,
    smooth: float = 0.0,
    coarse: float = 0.0,
) -> Float32[Array, "*n h w c"]:
    """As `camera_noise`, but a quarter of the images get white noise of that deviation."""
    clean = jnp.asarray(image, jnp.float32)
    kind_key, white_key, camera_key = jax.random.split(key, 3)
    noise = jnp.asarray(deviation, jnp.float32) * _normal(white_key, clean.shape)
    kinds = _bernoulli(kind_key, _WHITE_SHARE, (*clean.shape[:-3], 1, 1, 1))
    white = clean + _limited(clean, noise)
    noisy = camera_noise(camera_key, clean, deviation, smooth=smooth, coarse=coarse)
    return jnp.where(kinds, white, noisy)
