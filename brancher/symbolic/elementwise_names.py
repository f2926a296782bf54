"""Which functions of torch work entry by entry, reduce, or run along a dimension."""

from __future__ import annotations

#: Entry by entry: data broadcast with data. All others see the batch flattened into dimension 0.
ELEMENTWISE = frozenset(
    """
    abs absolute acos arccos acosh arccosh angle asin arcsin asinh arcsinh atan arctan atanh arctanh atan2 arctan2
    add sub subtract mul multiply div divide true_divide floor_divide remainder fmod pow float_power square sqrt rsqrt
    reciprocal neg negative positive sign sgn signbit copysign nextafter ceil floor round trunc fix frac
    exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 xlogy xlog1py logit sigmoid expit log_sigmoid logsigmoid
    sin cos tan sinh cosh tanh sinc deg2rad rad2deg hypot ldexp lerp addcmul addcdiv
    erf erfc erfcx erfinv ndtr ndtri log_ndtr lgamma gammaln digamma psi polygamma multigammaln gammainc gammaincc mvlgamma
    i0 i0e i1 i1e bessel_j0 bessel_j1 bessel_y0 bessel_y1 entr zeta
    clamp clip clamp_min clamp_max maximum minimum fmax fmin heaviside nan_to_num where
    eq ne lt le gt ge not_equal less less_equal greater greater_equal isclose isfinite isinf isnan
    logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
    relu relu6 elu selu celu gelu silu mish softplus softsign softshrink hardshrink tanhshrink hardtanh hardsigmoid
    hardswish leaky_relu rrelu threshold dropout alpha_dropout
    real imag conj
    """.split()
)

#: Need tensors where Python operators would take a number.
NEEDS_TENSORS = frozenset(
    """
    atan2 arctan2 maximum minimum fmax fmin logaddexp logaddexp2 hypot nextafter copysign heaviside logical_and
    logical_or logical_xor ldexp isclose gammainc gammaincc eq ne lt le gt ge not_equal less less_equal greater
    greater_equal add sub subtract mul multiply div divide true_divide floor_divide remainder fmod
    """.split()
)

#: Without ``dim``, reduce all of the data.
REDUCTIONS = frozenset(
    """
    sum nansum mean nanmean prod amax amin max min std var norm vector_norm logsumexp all any argmax argmin median
    nanmedian count_nonzero
    """.split()
)

#: Without ``dim``, run along the last dimension of the data.
ALONG_LAST = frozenset(
    "softmax log_softmax softmin gumbel_softmax cumsum cumprod logcumsumexp sort argsort glu flip roll".split()
)
