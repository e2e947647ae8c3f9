// SPDX-License-Identifier: Apache-2.0
// A look at the skeleton of an LMDB file before LMDB maps it: roots, tree pages and free list, not
// the values. LMDB 0.9 has no page checksums; a flipped bit there can end the process or hide
// entries.
#pragma once

#include <string>

#include "base/result.h"

namespace freshet::checkpoint {

// The file must not be open in LMDB. Reads the tree pages only (about one per hundred values) and
// finds: a page that is not what its parent says, leaves the file, is used twice or is free and used;
// keys out of order; more or fewer entries than counted. kCorrupt names what it found; kIo: the disk
// cannot read it. A missing file is fine.
base::Result<> CheckLmdbFile(const std::string& path);

// Removes the file if a crash during its creation left it unreadable. The caller knows that nothing of
// worth was ever written to it.
base::Result<> RemoveUnfinishedLmdbFile(const std::string& path);

}  // namespace freshet::checkpoint
