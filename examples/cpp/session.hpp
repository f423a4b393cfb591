// A model in ONNX Runtime, through its C interface: constant names of inputs and outputs, float in and float out.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

class Session {
public:
  explicit Session(const char* path) : api(OrtGetApiBase()->GetApi(ORT_API_VERSION)) {
    if (!api) fail("the ONNX Runtime library is older than its header");
    check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "hepgan", &env));
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, 1));
    check(api->CreateSession(env, path, options, &session));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    OrtAllocator* allocator = nullptr;
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    std::size_t count = 0;
    check(api->SessionGetInputCount(session, &count));
    for (std::size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      check(api->SessionGetInputName(session, i, allocator, &name));
      inputs.push_back(name);
      check(api->AllocatorFree(allocator, name));
    }
    char* name = nullptr;
    check(api->SessionGetOutputName(session, 0, allocator, &name));
    output = name;
    check(api->AllocatorFree(allocator, name));
  }

  ~Session() {
    api->ReleaseMemoryInfo(memory);
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
    api->ReleaseEnv(env);
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Returns the first output for the inputs in the order of the model.
  std::vector<float> run(std::vector<Tensor>& tensors) const {
    std::vector<OrtValue*> values(tensors.size(), nullptr);
    std::vector<const char*> names;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      Tensor& tensor = tensors[i];
      names.push_back(inputs.at(i).c_str());
      check(api->CreateTensorWithDataAsOrtValue(
        memory, tensor.values.data(), tensor.values.size() * sizeof(float), tensor.shape.data(),
        tensor.shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &values[i]));
    }
    const char* out = output.c_str();
    OrtValue* result = nullptr;
    check(api->Run(session, nullptr, names.data(), values.data(), values.size(), &out, 1, &result));
    OrtTensorTypeAndShapeInfo* info = nullptr;
    std::size_t size = 0;
    float* data = nullptr;
    check(api->GetTensorTypeAndShape(result, &info));
    check(api->GetTensorShapeElementCount(info, &size));
    check(api->GetTensorMutableData(result, reinterpret_cast<void**>(&data)));
    std::vector<float> numbers(data, data + size);
    api->ReleaseTensorTypeAndShapeInfo(info);
    api->ReleaseValue(result);
    for (OrtValue* value : values) api->ReleaseValue(value);
    return numbers;
  }

  const std::vector<std::string>& names() const { return inputs; }

private:
  [[noreturn]] static void fail(const std::string& message) {
    std::cerr << message << "\n";
    std::exit(1);
  }

  void check(OrtStatus* status) const {
    if (!status) return;
    const std::string message = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    fail(message);
  }

  const OrtApi* api;
  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  OrtMemoryInfo* memory = nullptr;
  std::vector<std::string> inputs;
  std::string output;
};

// Reads the noise of a shower from the standard input: as many numbers as there are.
inline std::vector<float> read_noise() {
  std::vector<float> noise;
  for (float number; std::cin >> number;) noise.push_back(number);
  return noise;
}
