// The matrix definition's random bits; trak_cli/projection/definition.py is the specification of every function here.
#pragma once
#include "portable.cuh"

TRAK_DEVICE u64 mix64(u64 x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

TRAK_DEVICE u32 fmix(u32 x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

// K: the key of block number `block` in the stream that starts at `stream`.
TRAK_DEVICE u64 block_key(u64 stream, u64 block) { return mix64(stream + (block + 1) * 0x9E3779B97F4A7C15ull); }

// W: 32 random bits of a block (by its key) and a column.
TRAK_DEVICE u32 word(u64 key, u32 column) { return fmix(fmix(0x9E3779B1u * column + (u32)key) + (u32)(key >> 32)); }
