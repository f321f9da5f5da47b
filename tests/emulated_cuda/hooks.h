// What torch asks a CUDA build for: devices, memory, pinned memory, generators, hooks. Only for device.cpp.
#pragma once

#include "device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace emulated {

int64_t setting(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoll(value) : otherwise;
}

thread_local c10::DeviceIndex current_index = 0;
c10::DeviceIndex device_count() { return static_cast<c10::DeviceIndex>(setting("EMULATED_CUDA_DEVICES", 1)); }
c10::Device current() { return {c10::DeviceType::CUDA, current_index}; }

struct DeviceMemory : public c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    auto memory = c10::GetCPUAllocator()->allocate(n);
    void* data = memory.get();
    return {data, new c10::DataPtr(std::move(memory)), [](void* it) { delete static_cast<c10::DataPtr*>(it); }, current()};
  }
  void copy_data(void* to, const void* from, std::size_t n) const override { default_copy_data(to, from, n); }
} device_memory;

std::mutex pinned_lock;
std::map<const char*, size_t> pinned;  // begin → length

struct PinnedMemory : public c10::Allocator {
  struct Piece {
    c10::DataPtr memory;
    const char* begin;
  };
  c10::DataPtr allocate(size_t n) override {
    auto memory = c10::GetCPUAllocator()->allocate(n);
    auto begin = static_cast<const char*>(memory.get());
    void* data = memory.get();
    {
      std::lock_guard<std::mutex> guard(pinned_lock);
      pinned[begin] = n;
    }
    auto free = [](void* it) {
      auto piece = static_cast<Piece*>(it);
      {
        std::lock_guard<std::mutex> guard(pinned_lock);
        pinned.erase(piece->begin);
      }
      delete piece;
    };
    return {data, new Piece{std::move(memory), begin}, free, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t n) const override { default_copy_data(to, from, n); }
} pinned_memory;

bool is_pinned(const void* data) {
  std::lock_guard<std::mutex> guard(pinned_lock);
  auto next = pinned.upper_bound(static_cast<const char*>(data));
  if (next == pinned.begin()) return false;
  auto piece = std::prev(next);
  return static_cast<const char*>(data) < piece->first + std::max<size_t>(piece->second, 1);
}

struct Generator : public c10::GeneratorImpl {  // the CPU's numbers, of a state of its own
  explicit Generator(c10::DeviceIndex index)
      : GeneratorImpl(c10::Device(c10::DeviceType::CUDA, index), c10::DispatchKeySet(c10::DispatchKey::CUDA)),
        numbers(at::detail::createCPUGenerator()) {}
  void set_current_seed(uint64_t seed) override { numbers.set_current_seed(seed), reseeded = true; }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return numbers.current_seed(); }
  uint64_t seed() override { return numbers.seed(); }
  void set_state(const c10::TensorImpl& state) override { numbers.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return numbers.unsafeGetGeneratorImpl()->get_state(); }
  Generator* clone_impl() const override {
    auto other = new Generator(device().index());
    other->numbers.set_state(numbers.get_state());
    return other;
  }
  at::Generator numbers;
  bool reseeded = false;
};

const at::Generator& default_generator(c10::DeviceIndex index) {
  static std::vector<at::Generator> all = [] {
    std::vector<at::Generator> made;
    for (c10::DeviceIndex i = 0; i < device_count(); i++) made.push_back(at::make_generator<Generator>(i));
    return made;
  }();
  return all.at(index < 0 ? current_index : index);
}

bool take_reseeded(c10::DeviceIndex index) {
  return std::exchange(static_cast<Generator*>(default_generator(index).unsafeGetGeneratorImpl())->reseeded, false);
}

struct Guard : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = current();
    current_index = device.index();
    return before;
  }
  c10::Device getDevice() const override { return current(); }
  void setDevice(c10::Device device) const override { current_index = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current_index = device.index(); }
  c10::Stream getStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream exchangeStream(c10::Stream) const override { return c10::Stream(c10::Stream::DEFAULT, current()); }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override { *event = &seen; }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

struct Hooks : public at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  bool supportsBFloat16RNNWithCuDNN() const override { return setting("EMULATED_CUDA_BFLOAT16_RNN", 1) != 0; }
  long versionCuDNN() const override { return 91300; }
  bool isAvailable() const override { return true; }
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return device_count(); }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
  c10::DeviceIndex current_device() const override { return current_index; }
  c10::DeviceIndex getCurrentDevice() const override { return current_index; }
  void setCurrentDevice(c10::DeviceIndex index) const override { current_index = index; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override { return std::exchange(current_index, index); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override { return std::exchange(current_index, index); }
  void deviceSynchronize(c10::DeviceIndex) const override {}
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  c10::Allocator* getCUDADeviceAllocator() const override { return &device_memory; }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override { return default_generator(index); }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override { return at::make_generator<Generator>(std::max<c10::DeviceIndex>(index, 0)); }
};
struct Register {
  Register() {
    c10::SetAllocator(c10::DeviceType::CUDA, &device_memory);
    at::CUDAHooksRegistry()->Register("CUDAHooks", [](at::CUDAHooksArgs args) -> std::unique_ptr<at::CUDAHooksInterface> { return std::make_unique<Hooks>(args); });
  }
} registering;

}  // namespace emulated
