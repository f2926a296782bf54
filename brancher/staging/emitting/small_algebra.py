"""Cholesky factors and triangular systems of small matrices, without a round through torch's dispatcher.

The way to LAPACK through the dispatcher costs more than the arithmetic on a matrix of 10 x 10. In the
generated wrapper such calls become calls of the loops below; larger matrices, other types and what broadcasts
go to the dispatcher as before.
"""

from __future__ import annotations

from brancher.staging.emitting.scratch import ENTRY

_CALLS = {
    'aoti_torch_call_dispatcher("aten::linalg_cholesky_ex", "", dispatch_vars.data())': (
        "brancher::cholesky_ex(dispatch_vars.data())"
    ),
    'aoti_torch_call_dispatcher("aten::linalg_solve_triangular", "", dispatch_vars.data())': (
        "brancher::solve_triangular(dispatch_vars.data())"
    ),
}

_PRELUDE = r"""
namespace brancher {
constexpr int64_t kSmall = 32;

struct Matrices {  // a batch of matrices, or one
  void* data = nullptr;
  int64_t ndim = 0, batch = 1, rows = 0, columns = 0, skip = 0, down = 0, right = 0;
  int32_t dtype = 0;
  bool small = false;

  explicit Matrices(AtenTensorHandle handle) {
    int64_t *sizes = nullptr, *strides = nullptr;
    if (aoti_torch_get_dim(handle, &ndim) || (ndim != 2 && ndim != 3)) return;
    if (aoti_torch_get_sizes(handle, &sizes) || aoti_torch_get_strides(handle, &strides)) return;
    if (aoti_torch_get_dtype(handle, &dtype) || aoti_torch_get_data_ptr(handle, &data)) return;
    if (ndim == 3) batch = sizes[0], skip = strides[0];
    rows = sizes[ndim - 2], columns = sizes[ndim - 1];
    down = strides[ndim - 2], right = strides[ndim - 1];
    small = rows > 0 && columns > 0 && rows <= kSmall && columns <= kSmall &&
            (dtype == aoti_torch_dtype_float64() || dtype == aoti_torch_dtype_float32());
  }
};

// Column by column, as LAPACK and torch lay their results out.
inline AtenTensorHandle like_lapack(const Matrices& m) {
  const int64_t sizes[3] = {m.batch, m.rows, m.columns};
  const int64_t strides[3] = {m.rows * m.columns, 1, m.rows};
  const int64_t first = 3 - m.ndim;
  AtenTensorHandle made = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      m.ndim, sizes + first, strides + first, m.dtype, aoti_torch_device_type_cpu(), 0, &made));
  return made;
}

template <typename T>
void factorise(const Matrices& a, T* out, int32_t* info) {
  const int64_t n = a.rows;
  for (int64_t b = 0; b < a.batch; ++b, out += n * n) {
    const T* in = static_cast<const T*>(a.data) + b * a.skip;
    info[b] = 0;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < n; ++i) out[i + j * n] = i < j ? T(0) : in[i * a.down + j * a.right];
    }
    for (int64_t j = 0; j < n && info[b] == 0; ++j) {
      for (int64_t k = 0; k < j; ++k) {
        const T factor = out[j + k * n];
        for (int64_t i = j; i < n; ++i) out[i + j * n] -= out[i + k * n] * factor;
      }
      if (!(out[j + j * n] > T(0))) {
        info[b] = static_cast<int32_t>(j + 1);
        break;
      }
      const T pivot = std::sqrt(out[j + j * n]);
      out[j + j * n] = pivot;
      for (int64_t i = j + 1; i < n; ++i) out[i + j * n] /= pivot;
    }
  }
}

inline AOTITorchError cholesky_ex(StableIValue* given) {
  const AtenTensorHandle handle = torch::stable::detail::to<AtenTensorHandle>(given[0]);
  const Matrices a(handle);
  if (!a.small || a.rows != a.columns || (given[1] & 255) != 0 || (given[2] & 255) != 0) {
    return aoti_torch_call_dispatcher("aten::linalg_cholesky_ex", "", given);
  }
  RAIIAtenTensorHandle owned(handle);
  RAIIAtenTensorHandle factor(like_lapack(a));
  const int64_t one = 1;
  AtenTensorHandle info = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      a.ndim - 2, &a.batch, &one, aoti_torch_dtype_int32(), aoti_torch_device_type_cpu(), 0, &info));
  RAIIAtenTensorHandle told(info);
  int32_t* codes = static_cast<int32_t*>(told.data_ptr());
  if (a.dtype == aoti_torch_dtype_float64()) factorise(a, static_cast<double*>(factor.data_ptr()), codes);
  else factorise(a, static_cast<float*>(factor.data_ptr()), codes);
  given[0] = torch::stable::detail::from(factor.release());
  given[1] = torch::stable::detail::from(told.release());
  return AOTI_TORCH_SUCCESS;
}

template <typename T>
void substitute(const Matrices& a, const Matrices& b, bool upper, bool unit, T* out) {
  const int64_t n = a.rows;
  for (int64_t m = 0; m < b.batch; ++m) {
    const T* in = static_cast<const T*>(a.data) + m * a.skip;
    const T* right = static_cast<const T*>(b.data) + m * b.skip;
    for (int64_t c = 0; c < b.columns; ++c, out += n) {
      for (int64_t i = 0; i < n; ++i) out[i] = right[i * b.down + c * b.right];
      for (int64_t step = 0; step < n; ++step) {
        const int64_t j = upper ? n - 1 - step : step;
        if (!unit) out[j] /= in[j * (a.down + a.right)];
        const int64_t first = upper ? 0 : j + 1, last = upper ? j : n;
        for (int64_t i = first; i < last; ++i) out[i] -= in[i * a.down + j * a.right] * out[j];
      }
    }
  }
}

inline AOTITorchError solve_triangular(StableIValue* given) {
  const AtenTensorHandle left = torch::stable::detail::to<AtenTensorHandle>(given[0]);
  const AtenTensorHandle right = torch::stable::detail::to<AtenTensorHandle>(given[1]);
  const Matrices a(left), b(right);
  const bool upper = (given[2] & 255) != 0, from_left = (given[3] & 255) != 0, unit = (given[4] & 255) != 0;
  const bool match = a.ndim == b.ndim && a.batch == b.batch && a.dtype == b.dtype;
  if (!a.small || !b.small || !match || !from_left || a.rows != a.columns || a.rows != b.rows) {
    return aoti_torch_call_dispatcher("aten::linalg_solve_triangular", "", given);
  }
  RAIIAtenTensorHandle first(left), second(right);
  RAIIAtenTensorHandle found(like_lapack(b));
  if (a.dtype == aoti_torch_dtype_float64()) {
    substitute(a, b, upper, unit, static_cast<double*>(found.data_ptr()));
  } else {
    substitute(a, b, upper, unit, static_cast<float*>(found.data_ptr()));
  }
  given[0] = torch::stable::detail::from(found.release());
  return AOTI_TORCH_SUCCESS;
}
}  // namespace brancher

"""


def inline_small_algebra(source: str) -> str:
    """Let a C++ wrapper, which holds `ENTRY`, treat small matrices itself; see the file's head."""
    changed = source
    for call, ours in _CALLS.items():
        changed = changed.replace(call, ours)
    return source if changed == source else changed.replace(ENTRY, _PRELUDE + ENTRY, 1)
