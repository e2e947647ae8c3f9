// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace freshet::transport {

// Keeps blocks of the size of array frames in malloc's heap instead of mapping, faulting and
// unmapping each of them, which halves the throughput of big packets. Call it first in main. The
// price is up to 128 MiB that a thread's heap keeps instead of giving back. A no-op where malloc is
// not glibc's.
void TuneMallocForFrames();

}  // namespace freshet::transport
