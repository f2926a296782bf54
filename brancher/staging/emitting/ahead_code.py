"""C++ for what is computed ahead of a step (`ahead`): a function of its own, and an entry that calls both."""

from __future__ import annotations

import re
from typing import NamedTuple

from brancher.staging.emitting.loop_code import NOT_ALONE, RELEASE, SOURCE
from brancher.staging.emitting.scratch import ENTRY
from brancher.staging.rewriting.ahead import Ahead

_END = "} // inductor_entry_impl"
_INCLUDE = re.compile(r"^#include <torch/.*\n", re.MULTILINE)

#: From the inputs `kRead` of a step come its last `kAhead` inputs.
_ENTRIES = r"""
namespace brancher {
constexpr size_t kRead[] = {@READ@}, kAhead = @AHEAD@, kInputs = @INPUTS@;

inline std::vector<RAIIAtenTensorHandle> ahead(const AtenTensorHandle* in) {
  AtenTensorHandle read[std::size(kRead)], made[kAhead];
  for (size_t i = 0; i < std::size(kRead); ++i)
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(in[kRead[i]], &read[i]));
  brancher_ahead(read, made);
  std::vector<RAIIAtenTensorHandle> kept;
  for (AtenTensorHandle each : made) kept.emplace_back(each);
  return kept;
}
}  // namespace brancher

void inductor_entry_impl(AtenTensorHandle* in, AtenTensorHandle* out) {
  AtenTensorHandle all[brancher::kInputs + brancher::kAhead];
  std::vector<RAIIAtenTensorHandle> known = brancher::ahead(in);
  for (size_t i = 0; i < brancher::kInputs; ++i) all[i] = in[i];
  for (size_t i = 0; i < known.size(); ++i) all[brancher::kInputs + i] = known[i].release();
  brancher_step(all, out);
}
"""
_NONE = """
namespace brancher {
constexpr std::array<size_t, 0> kRead{};
constexpr size_t kAhead = 0;
inline std::vector<RAIIAtenTensorHandle> ahead(const AtenTensorHandle*) { return {}; }
}  // namespace brancher

inline void brancher_step(AtenTensorHandle* in, AtenTensorHandle* out) { inductor_entry_impl(in, out); }
"""


class Before(NamedTuple):
    """What is computed ahead of a step, and Inductor's wrapper module for it."""

    ahead: Ahead
    wrapper: str


def with_ahead(step: str, before: Before | None) -> tuple[str, str] | None:
    """Return the text of a step with what is computed ahead, and what calls both, to stand behind it.

    None where what is computed ahead can not stand alone.
    """
    if before is None:
        return step, _NONE
    found = SOURCE.search(before.wrapper)
    text = "" if found is None else found.group(1).replace("cpp_fused_", "cpp_fused_ahead_")
    start, end = text.find(ENTRY), text.find(_END)
    if start < 0 or end < 0 or any(sign in text for sign in NOT_ALONE):
        return None
    head = [line for line in text[:start].splitlines() if not (line.startswith("CACHE_") and line in step)]
    function = text[start:end].replace(ENTRY, "void brancher_ahead(", 1).replace(RELEASE, "", 1)
    declared = _INCLUDE.sub("", "\n".join(head)) + f"\n{function}}}\n\n"
    kernels = _INCLUDE.sub("", text[end + len(_END) :])
    ahead = before.ahead
    entries = _ENTRIES.replace("@READ@", ", ".join(map(str, ahead.reads)))
    entries = entries.replace("@AHEAD@", str(ahead.results)).replace("@INPUTS@", str(ahead.inputs))
    return step.replace(ENTRY, f"{declared}void brancher_step(", 1) + kernels, entries
