// What the emulated device consists of; device.cpp says what it is for.
#pragma once

#include <ATen/ATen.h>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

namespace emulated {

// What was seen since the last `emulated_reset`.
struct Seen {
  std::atomic<int64_t> reads{0};   // values that the host waited for: item(), copies to the CPU, nonzero, ...
  std::atomic<int64_t> writes{0};  // copies to the device for which the host waited: not pinned or not non_blocking
  std::atomic<int64_t> halves{0};  // operators that met a float16 tensor
};
extern Seen seen;
void note(const std::string& what);  // for the list of what was seen
void see_dtypes(const char* name, const at::Tensor& tensor);

// The same memory, said to be on the other device. Keys of autograd and inference mode stay as they are.
at::Tensor relabel(const at::Tensor& tensor, c10::Device device);

// Which CPU storage stands for which tensor of the device while an operator runs.
using Pairs = std::vector<std::pair<at::Tensor, at::Tensor>>;

// A tensor of the device as one of the CPU.
// Raises if it is on the CPU already and is more than a scalar, or on another device than those in `pairs`.
at::Tensor down(const at::Tensor& tensor, const char* name, Pairs& pairs);

// A result as a tensor of the device, a view of the argument whose memory it shares, if it shares one's.
at::Tensor up(const at::Tensor& tensor, const Pairs& pairs);

c10::Device current();
const at::Generator& default_generator(c10::DeviceIndex index);
bool take_reseeded(c10::DeviceIndex index);  // whether the default generator got a new seed since the last call

}  // namespace emulated
