from __future__ import annotations

import pytest
import torch

from brancher.staging import stage_loop
from brancher.staging.emitting.scratch import LARGEST, lighten

Tensor = torch.Tensor

_WRAPPER = """
#include <something.h>
void inductor_entry_impl(AtenTensorHandle* input_handles, AtenTensorHandle* output_handles) {
    static constexpr int64_t int_array_0[] = {@SIZE@L, };
    static constexpr int64_t int_array_1[] = {1L, };
    static constexpr int64_t int_array_2[] = {8L, };
@MAKE buf0@
@MAKE buf1@
@MAKE buf2@
    auto buf3 = wrap_with_raii_handle_if_needed(reinterpret_tensor_wrapper(buf2, 1, int_array_2, int_array_1, 2L));  // alias
    cpp_fused_0((const float*)(arg0_1.data_ptr()), (float*)(buf0.data_ptr()), (float*)(buf3.data_ptr()));
    auto buf4 = std::move(buf0);  // reuse
    cpp_fused_1((float*)(buf4.data_ptr()), (float*)(buf2.data_ptr()));
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_sort(buf1, &buf5_handle));
    buf4.reset();
    output_handles[0] = buf2.release();
} // inductor_entry_impl
"""  # noqa: E501


def wrapper(size: int = 16, dtype: str = "float32") -> str:
    text = _WRAPPER.replace("@SIZE@", str(size))
    for name in ("buf0", "buf1", "buf2"):
        text = text.replace(
            f"@MAKE {name}@",
            f"    AtenTensorHandle {name}_handle;\n"
            "    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(1, int_array_0, int_array_1, "
            f"cached_torch_dtype_{dtype}, cached_torch_device_type_cpu, 0, &{name}_handle));\n"
            f"    RAIIAtenTensorHandle {name}({name}_handle);",
        )
    return text


def body(text: str) -> str:
    return text[text.index("void inductor_entry_impl(") :]


def test_buffer_of_kernels_alone_goes_to_the_stack_by_all_its_names() -> None:
    text = body(lighten(wrapper()))
    assert "brancher::Scratch<64> buf0;" in text
    assert "brancher::Part buf4{buf0.data_ptr()};" in text


def test_buffer_of_another_function_and_output_stay_tensors() -> None:
    text = body(lighten(wrapper()))
    assert text.count("brancher::empty(") == 2
    assert "RAIIAtenTensorHandle buf1(buf1_handle);" in text
    assert "RAIIAtenTensorHandle buf2(buf2_handle);" in text


def test_part_is_a_pointer_into_the_whole() -> None:
    text = body(lighten(wrapper()))
    assert "brancher::Part buf3{static_cast<char*>(static_cast<void*>(buf2.data_ptr())) + 8};" in text


@pytest.mark.parametrize("text", [wrapper(size=LARGEST), wrapper(dtype="complex64")])
def test_large_and_unknown_buffers_stay_as_they_are(text: str) -> None:
    changed = body(lighten(text))
    assert "Scratch" not in changed and "brancher::empty" not in changed


def test_part_that_outlives_the_whole_stays() -> None:
    early = wrapper().replace("    cpp_fused_0(", "    buf2.reset();\n    cpp_fused_0(")
    assert "auto buf3 = wrap_with_raii_handle_if_needed" in body(lighten(early))


def test_results_of_a_loop_are_not_used_again(compiler: str) -> None:
    def step(carry: tuple[Tensor, Tensor], by: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, y = carry
        return (y, x.sort().values + by), x.sum()

    loop = stage_loop(step)
    start = (torch.arange(3.0), -torch.arange(3.0))
    first = loop(start, 7, torch.tensor(1.0))
    kept = [t.clone() for t in first.carry]
    single, _ = loop.step(first.carry, torch.tensor(5.0))
    alone = [t.clone() for t in single]
    second = loop(first.carry, 6, torch.tensor(-3.0))
    carry = start
    for _ in range(7):
        carry, _ = step(carry, torch.tensor(1.0))
    torch.testing.assert_close(first.carry, carry)
    torch.testing.assert_close(list(first.carry), kept)
    torch.testing.assert_close(list(single), alone)
    assert len({t.data_ptr() for t in (*first.carry, *second.carry, *single)}) == 6
    assert float(second.outputs[0]) == float(first.carry[0].sum())
