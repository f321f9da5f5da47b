// A CUDA device that is not there: its memory is the host's, and the CPU's operators compute on it.
//
// Every operator that is called with tensors of the device comes to `fallback`, which gives it the same memory as
// tensors of the CPU and gives its results back as tensors of the device. It refuses what CUDA refuses (tensors of two
// devices), counts what makes the host wait, and notes float16. cudnn.cpp adds cuDNN's recurrent layers.
// Built and loaded by __init__.py, before torch is imported, since torch looks for its CUDA hooks once.
#include "hooks.h"

#include <ATen/EmptyTensor.h>
#include <torch/library.h>

#include <set>

namespace emulated {

Seen seen;
std::mutex names_lock;
std::map<std::string, int64_t> names;

void note(const std::string& what) {
  std::lock_guard<std::mutex> guard(names_lock);
  names[what]++;
}

void see_dtypes(const char* name, const at::Tensor& tensor) {
  if (tensor.defined() && tensor.scalar_type() == at::kHalf) {
    seen.halves++;
    note(std::string("float16 in ") + name);
  }
}

// --- one memory, two names -------------------------------------------------------------------------------------------

c10::DispatchKeySet keys_on(c10::DispatchKeySet keys, c10::DeviceType type) {
  auto other = type == c10::DeviceType::CPU ? c10::BackendComponent::CUDABit : c10::BackendComponent::CPUBit;
  auto wanted = type == c10::DeviceType::CPU ? c10::BackendComponent::CPUBit : c10::BackendComponent::CUDABit;
  return keys.remove_backend(other) | c10::DispatchKeySet(wanted);
}

// Not a plain new tensor: within inference mode that would be one of inference, whatever the first one is.
at::Tensor named(c10::Storage storage, const at::Tensor& like, c10::DeviceType type) {
  auto result = at::detail::make_tensor<c10::TensorImpl>(
      c10::TensorImpl::VIEW, std::move(storage), keys_on(like.key_set(), type), like.dtype());
  auto impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  return result;
}

at::Tensor relabel(const at::Tensor& tensor, c10::Device device) {
  c10::DataPtr data(const_cast<void*>(tensor.storage().data()), new at::Tensor(tensor), [](void* it) { delete static_cast<at::Tensor*>(it); }, device);
  auto allocator = device.is_cpu() ? c10::GetCPUAllocator() : static_cast<c10::Allocator*>(&device_memory);
  c10::Storage storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(), std::move(data), allocator, /*resizable=*/true);
  return named(std::move(storage), tensor, device.type());
}

at::Tensor down(const at::Tensor& tensor, const char* name, Pairs& pairs) {
  if (!tensor.defined()) return tensor;
  see_dtypes(name, tensor);
  if (!tensor.is_cuda()) {
    TORCH_CHECK(tensor.dim() == 0, "Expected all tensors to be on the same device: ", name, " meets one of shape ", tensor.sizes(), " on ", tensor.device());
    return tensor;
  }
  TORCH_CHECK(pairs.empty() || pairs[0].second.device() == tensor.device(), "Expected all tensors to be on the same device: ", name, " meets ", pairs[0].second.device(), " and ", tensor.device());
  auto it = relabel(tensor, c10::DeviceType::CPU);
  pairs.emplace_back(it, tensor);
  return it;
}

at::Tensor up(const at::Tensor& tensor, const Pairs& pairs) {
  if (!tensor.defined() || tensor.is_cuda()) return tensor;
  for (auto& [here, there] : pairs)
    if (here.storage().unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl()) return named(there.storage(), tensor, c10::DeviceType::CUDA);
  return relabel(tensor, pairs.empty() ? current() : pairs[0].second.device());
}

// An operator may have given an argument other memory or another shape: `resize_`, `out=`.
void keep_resized(const Pairs& pairs) {
  for (auto& [here, there] : pairs) {
    if (here.storage().data() != there.storage().data()) {
      c10::DataPtr data(const_cast<void*>(here.storage().data()), new at::Tensor(here), [](void* it) { delete static_cast<at::Tensor*>(it); }, there.device());
      there.storage().set_data_ptr_noswap(std::move(data));
      there.storage().set_nbytes(here.storage().nbytes());
    }
    if (here.sizes() != there.sizes() || here.strides() != there.strides())
      there.unsafeGetTensorImpl()->set_sizes_and_strides(here.sizes(), here.strides(), here.storage_offset());
  }
}

template <typename F>
c10::IValue mapped(const c10::IValue& value, const F& change) {  // tensors in lists of lists, too
  if (value.isTensor()) return change(value.toTensor());
  if (!value.isList()) return value;
  auto list = value.toList();
  auto kind = list.elementType()->kind();
  if (kind != c10::TypeKind::TensorType && kind != c10::TypeKind::OptionalType && kind != c10::TypeKind::ListType) return value;
  c10::impl::GenericList changed(list.elementType());
  for (const c10::IValue& element : list) changed.push_back(mapped(element, change));
  return changed;
}

// --- operators -------------------------------------------------------------------------------------------------------

bool makes_the_host_wait(const std::string& name, const std::vector<c10::IValue>& arguments) {
  static const std::set<std::string> waiting{
      "aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::_unique2",
      "aten::unique_dim", "aten::unique_consecutive", "aten::bincount", "aten::repeat_interleave"};
  if (waiting.count(name)) return true;
  if (name.rfind("aten::index", 0) != 0 && name != "aten::_index_put_impl_") return false;
  for (const auto& value : arguments)  // a mask becomes numbers by nonzero
    if (value.isList() && value.toList().elementType()->kind() == c10::TypeKind::OptionalType)
      for (const c10::IValue& index : value.toList())
        if (index.isTensor() && index.toTensor().defined() && index.toTensor().scalar_type() == at::kBool) return true;
  return false;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const char* name = schema.operator_name().name.c_str();
  const size_t count = schema.arguments().size(), first = stack->size() - count;
  const std::vector<c10::IValue> originals(stack->begin() + first, stack->end());
  if (makes_the_host_wait(schema.name(), originals)) seen.reads++, note(std::string("read by ") + name);
  Pairs pairs;
  for (size_t i = 0; i < count; i++) {
    auto& value = (*stack)[first + i];
    if (value.isDevice()) value = c10::Device(c10::DeviceType::CPU);
    else value = mapped(value, [&](const at::Tensor& tensor) { return down(tensor, name, pairs); });
  }
  const auto device = pairs.empty() ? current() : pairs[0].second.device();
  auto drawn_from = default_generator(device.index());
  for (size_t i = 0; i < count; i++) {
    auto& value = (*stack)[first + i];
    const auto& type = *schema.arguments()[i].type();
    if (type.kind() != c10::TypeKind::OptionalType || type.castRaw<c10::OptionalType>()->getElementType()->kind() != c10::TypeKind::GeneratorType) continue;
    if (!value.isNone()) drawn_from = value.toGenerator();
    TORCH_CHECK(drawn_from.device().is_cuda(), "Expected a 'cuda' device type for generator but found '", drawn_from.device(), "'");
    value = c10::IValue();
  }
  if (op.hasTag(at::Tag::nondeterministic_seeded)) {  // the CPU's operator draws from the CPU's generator
    auto& numbers = static_cast<Generator*>(drawn_from.unsafeGetGeneratorImpl())->numbers;
    auto cpu = at::detail::getDefaultCPUGenerator();
    const auto before = cpu.get_state();
    cpu.set_state(numbers.get_state());
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
    numbers.set_state(cpu.get_state());
    cpu.set_state(before);
  } else {
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  keep_resized(pairs);
  const size_t results = schema.returns().size(), first_result = stack->size() - results;
  for (size_t i = 0; i < results; i++) {
    auto& value = (*stack)[first_result + i];
    const auto* alias = schema.returns()[i].alias_info();
    if (alias && alias->isWrite()) {  // in place or out: what came in
      for (size_t j = 0; j < count; j++) {
        const auto* other = schema.arguments()[j].alias_info();
        if (other && other->isWrite() && other->beforeSets() == alias->beforeSets()) value = originals[j];
      }
    } else {
      value = mapped(value, [&](const at::Tensor& tensor) { return see_dtypes(name, tensor), up(tensor, pairs); });
    }
  }
}

c10::Device device_or_current(std::optional<c10::Device> device) {
  return device && device->has_index() ? *device : current();
}

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<c10::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(device_or_current(device));
  at::Tensor result = at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &device_memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(dtype), format);
  return see_dtypes("empty", result), result;
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<c10::Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(device_or_current(device));
  at::Tensor result = at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &device_memory, c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(dtype));
  return see_dtypes("empty_strided", result), result;
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (!self.is_cuda()) seen.reads++, note("read by copy_");
  else if (source.is_cpu() && !(non_blocking && is_pinned(source.storage().data()))) seen.writes++, note("write by copy_");
  see_dtypes("copy_", self), see_dtypes("copy_", source);
  auto to = self.is_cuda() ? relabel(self, c10::DeviceType::CPU) : self;
  to.copy_(source.is_cuda() ? relabel(source, c10::DeviceType::CPU) : source);
  return self;
}

at::Tensor& set_storage_at(at::Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  auto impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_storage_offset(offset.expect_int());
  if (stride.empty() && !size.empty()) impl->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(size));
  else impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source) {
  const int64_t count = source.nbytes() / self.dtype().itemsize();
  return set_storage_at(self, std::move(source), 0, c10::SymInt(count), {});
}

}  // namespace emulated

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&emulated::fallback>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", emulated::empty);
  m.impl("empty_strided", emulated::empty_strided);
  m.impl("copy_", emulated::copy_);
  m.impl("set_.source_Storage", emulated::set_storage);
  m.impl("set_.source_Storage_storage_offset", emulated::set_storage_at);
}

// Collectives: gloo works on the CPU's names of the memory.
TORCH_LIBRARY_IMPL(c10d, CUDA, m) {
  for (const char* name : {"allreduce_", "allreduce_coalesced_", "allgather_", "_allgather_base_", "allgather_into_tensor_coalesced_", "broadcast_", "reduce_", "gather_", "scatter_", "reduce_scatter_", "_reduce_scatter_base_", "alltoall_", "alltoall_base_", "barrier"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&emulated::fallback>());
}

TORCH_LIBRARY(emulated_cuda, m) {
  m.def("default_generator() -> Generator?", [] { return emulated::default_generator(-1); });
}

// --- for Python ------------------------------------------------------------------------------------------------------

extern "C" {
int64_t emulated_reads() { return emulated::seen.reads; }
int64_t emulated_writes() { return emulated::seen.writes; }
int64_t emulated_halves() { return emulated::seen.halves; }
void emulated_reset() {
  emulated::seen.reads = emulated::seen.writes = emulated::seen.halves = 0;
  std::lock_guard<std::mutex> guard(emulated::names_lock);
  emulated::names.clear();
}
const char* emulated_names() {  // lines "how often, what"; valid until the next call
  static std::string lines;
  std::lock_guard<std::mutex> guard(emulated::names_lock);
  lines.clear();
  for (auto& [name, times] : emulated::names) lines += std::to_string(times) + " " + name + "\n";
  return lines.c_str();
}
void emulated_set_device(int64_t index) { emulated::current_index = static_cast<c10::DeviceIndex>(index); }
int64_t emulated_current_device() { return emulated::current_index; }
}
