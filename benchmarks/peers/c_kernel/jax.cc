// Handlers for XLA's foreign function interface.
#include "attention.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using Input = ffi::Buffer<ffi::DataType::F32>;
using Output = ffi::ResultBuffer<ffi::DataType::F32>;

static attention::Sizes sizes_of(Input query, Input key, bool causal,
                                 float scale) {
  auto sizes = query.dimensions();
  return {sizes[0], sizes[1], key.dimensions()[1], sizes[2], causal, scale};
}

static ffi::Error forward(Input query, Input key, Input value, Output output,
                          Output logsumexp, bool causal, float scale) {
  attention::forward(sizes_of(query, key, causal, scale), query.typed_data(),
                     key.typed_data(), value.typed_data(),
                     output->typed_data(), logsumexp->typed_data());
  return ffi::Error::Success();
}

static ffi::Error backward(Input query, Input key, Input value, Input output,
                           Input upstream, Input logsumexp, Output to_query,
                           Output to_key, Output to_value, bool causal,
                           float scale) {
  attention::backward(sizes_of(query, key, causal, scale), query.typed_data(),
                      key.typed_data(), value.typed_data(),
                      output.typed_data(), upstream.typed_data(),
                      logsumexp.typed_data(), to_query->typed_data(),
                      to_key->typed_data(), to_value->typed_data());
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(AttentionForward, forward,
                              ffi::Ffi::Bind()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Ret<Input>()
                                  .Ret<Input>()
                                  .Attr<bool>("causal")
                                  .Attr<float>("scale"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(AttentionBackward, backward,
                              ffi::Ffi::Bind()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Arg<Input>()
                                  .Ret<Input>()
                                  .Ret<Input>()
                                  .Ret<Input>()
                                  .Attr<bool>("causal")
                                  .Attr<float>("scale"));
