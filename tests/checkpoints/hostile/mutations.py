"""Mutations of pickles and of the files around them.

Each function takes a ``random.Random`` first, so that a seed gives the same files everywhere.
"""

import pickletools
import struct

LENGTHS = (
    *(0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 65535, 65536, 10**6, 10**8),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**31)),
)

TYPE_CODES = (
    *('f8', 'f4', 'f2', 'f16', 'i8', 'i4', 'i1', 'u8', 'u4', 'u1', 'b1', '?', 'c8', 'c16'),
    *('O', 'O8', '|O', '|O8', 'V', 'V8', 'V0', 'S', 'S8', 'S0', 'U', 'U4', 'M8', 'm8', 'T'),
    *('>f8', '<f8', '=i4', 'i4,f8', '(2,3)f8', '(1000000000,)f8', 'object', 'float64', ''),
    *('<', '>', '=', '|', 'latin1', 'rot13', 'utf-8', 'mean', '__init__', '__globals__', 'cpu'),
)

# What a pickle may ask for, what it may ask for with us alone, and what it may never ask for.
NAMES = (
    *('collections OrderedDict', 'collections Counter', 'torch FloatStorage', 'torch Size'),
    *('torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter', '_codecs encode'),
    *('torch._tensor _rebuild_from_type_v2', 'torch._utils _rebuild_device_tensor_from_numpy'),
    *('numpy ndarray', 'numpy dtype', 'numpy float64', 'numpy.dtypes Float64DType'),
    *('numpy.core.multiarray _reconstruct', 'numpy._core.multiarray _reconstruct'),
    *('numpy.core.multiarray scalar', 'numpy._core.multiarray scalar', 'numpy frombuffer'),
    *('numpy.core.numeric _frombuffer', 'numpy._core.numeric _frombuffer', 'numpy load'),
    *('builtins bytes', '__builtin__ getattr', 'builtins getattr', 'builtins slice'),
    'mmengine.logging.history_buffer HistoryBuffer',
    *('mmseg_ctx.checkpoints.stand_ins PickledArray', 'mmseg_ctx.checkpoints.stand_ins UNFILLED'),
    *('posix system', 'os system', 'builtins eval', 'builtins exec', 'builtins __import__'),
    *('builtins open', 'subprocess Popen', 'copyreg _reconstructor', 'functools partial'),
    *('operator attrgetter', 'types FunctionType', 'ctypes string_at', 'builtins setattr'),
)

# Eight bytes, as protocol 2 writes them.
BYTES = b'c_codecs\nencode\nX\x08\x00\x00\x00AAAAAAAAX\x06\x00\x00\x00latin1\x86R'

# An object array over bytes of the file's choosing.
OBJECTS = b'cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R' + BYTES + b'tR'

# Whole sequences of operations that leave one object on the stack, of protocol 2 alone.
GADGETS = (
    # That array, something that reads it, and the same by NumPy's own way and as a number.
    OBJECTS,
    b'ccollections\nOrderedDict\n' + OBJECTS + b'\x85R',
    b'cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85X\x01\x00\x00\x00b\x87R'
    b'(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R\x89' + BYTES + b'tb',
    b'cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\x00\x00\x00O\x85R' + BYTES + b'\x86R',
    b'cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R' + BYTES + b'tR',
    b'cnumpy\nndarray\n)\x81',
    b'cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xff'
    b'J\xff\xff\xff\xffK?tb',
    # An array without a buffer, larger than any memory.
    b'cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R',
    # Bytes, by a call and in a number larger than any memory.
    b'c__builtin__\nbytes\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R',
    b'c__builtin__\ngetattr\nc__builtin__\ngetattr\nX\x08\x00\x00\x00__self__\x86R',
    b'c__builtin__\ngetattr\ncnumpy\nndarray\nX\x06\x00\x00\x00tofile\x86R',
    b'cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}(X\x12\x00\x00\x00statistics_methods'
    b'}X\x04\x00\x00\x00meanccollections\nOrderedDict\nsub',
    b'cmmengine.logging.history_buffer\nHistoryBuffer\n(K\x05K\x06tR',
    b'cposix\nsystem\nX\x0c\x00\x00\x00touch canary\x85R',
    b"c__builtin__\neval\nX\x13\x00\x00\x00open('canary', 'w')\x85R",
    # What a memo that is a list takes 4 GiB for.
    b'Nr\xff\xff\xff\x1f',
    b'\x8e\xff\xff\xff\xff\xff\xff\xff\x7f',
    b'\x96\xff\xff\xff\xff\x0f\x00\x00\x00',
)

# A tuple too deep to be hashed as a key, which ends a process with PyTorch's own unpickler, too.
DEEP_KEY = b'}' + b')' + b'\x85' * 300_000 + b'K\x01s'

OPCODES = [opcode.code.encode('latin1') for opcode in pickletools.opcodes]


def operations(data):
    """Return a pickle's operations, each as bytes, and what follows its end."""
    starts = [position for _, _, position in pickletools.genops(data)]
    ends = [*starts[1:], starts[-1] + 1]
    return [data[i:j] for i, j in zip(starts, ends, strict=True)], data[ends[-1] :]


def mutate_pickle(rng, data, others):
    """Return a pickle with up to eight of its operations changed.

    Args:
        rng (random.Random): Source of random numbers.
        data (bytes): A valid pickle.
        others (list[bytes]): Pickles to take operations from.
    """
    parts, rest = operations(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(PICKLE_MUTATIONS)(rng, parts, others)
    data = b''.join(parts) + rest
    return mutate_bytes(rng, data) if rng.random() < 0.1 else data


def _argument(rng, parts, others):
    place = rng.randrange(len(parts))
    parts[place] = _other_argument(rng, parts[place])


def _type(rng, parts, others):
    """Change a text, which is where types, orders and encodings are."""
    texts = [i for i, part in enumerate(parts) if part[:1] in (b'X', b'\x8c', b'U') and part[2:]]
    if texts:
        place = rng.choice(texts)
        parts[place] = _text(parts[place][:1], rng.choice(TYPE_CODES))


def _shape(rng, parts, others):
    numbers = [i for i, part in enumerate(parts) if part[:1] in (b'K', b'M', b'J', b'\x8a')]
    if numbers:
        parts[rng.choice(numbers)] = _number(rng.choice(LENGTHS))


def _name(rng, parts, others):
    names = [i for i, part in enumerate(parts) if part[:1] == b'c']
    if names:
        parts[rng.choice(names)] = _global(rng)


def _drop(rng, parts, others):
    del parts[rng.randrange(len(parts))]
    parts[:] = parts or [b'.']


def _repeat(rng, parts, others):
    start = rng.randrange(len(parts))
    chunk = parts[start : start + rng.choice((1, 1, 2, 5, 20))]
    place = start if rng.random() < 0.5 else rng.randrange(len(parts))
    parts[place:place] = chunk * rng.choice((1, 1, 2, 50))


def _swap(rng, parts, others):
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[i], parts[j] = parts[j], parts[i]


def _opcode(rng, parts, others):
    place = rng.randrange(len(parts))
    parts[place] = rng.choice(OPCODES) + parts[place][1:]


def _insert(rng, parts, others):
    new = rng.choice((rng.choice(GADGETS), rng.choice(OPCODES), _global(rng), b'R', b'b', b'\x81'))
    parts.insert(rng.randrange(len(parts)), new)


def insert_deep_key(rng, data):
    """Return a pickle with a dictionary in it whose key is a very deeply nested tuple."""
    parts, rest = operations(data)
    parts.insert(rng.randrange(2, len(parts)), DEEP_KEY)
    return b''.join(parts) + rest


def _replace_by_gadget(rng, parts, others):
    """Put a gadget in the place of a number, a text or a constant, so that the rest goes on."""
    literals = [i for i, part in enumerate(parts) if part[:1] in b'KMJXUN\x88\x89\x8c\x8aG']
    parts[rng.choice(literals) if literals else 0] = rng.choice(GADGETS)


def _splice(rng, parts, others):
    theirs, _ = operations(rng.choice(others))
    start = rng.randrange(len(theirs))
    place = rng.randrange(len(parts))
    parts[place : place + rng.choice((0, 1, 5))] = theirs[start : start + rng.choice((1, 5, 30))]


def _memo(rng, parts, others):
    numbers = [i for i, part in enumerate(parts) if part[:1] in (b'q', b'r', b'h', b'j')]
    new = rng.choice((b'q', b'h')) + bytes([rng.randrange(256)])
    if rng.random() < 0.3:
        new = rng.choice((b'r', b'j')) + struct.pack('<I', rng.choice(LENGTHS) % 2**32)
    if numbers:
        parts[rng.choice(numbers)] = new


PICKLE_MUTATIONS = (
    *(_argument, _type, _type, _shape, _shape, _name, _drop, _repeat, _swap, _opcode, _insert),
    *(_replace_by_gadget, _replace_by_gadget, _splice, _memo),
)


def _other_argument(rng, part):
    code = part[:1]
    if code in (b'X', b'\x8c', b'U'):
        return _text(code, rng.choice(TYPE_CODES))
    if code == b'c':
        return _global(rng)
    if code in (b'K', b'M', b'J', b'\x8a'):
        return _number(rng.choice(LENGTHS))
    return code + mutate_bytes(rng, part[1:]) if part[1:] else part


def _text(code, text):
    data = text.encode()
    return code + (struct.pack('<I', len(data)) if code == b'X' else bytes([len(data)])) + data


def _number(value):
    if -(2**31) <= value < 2**31:
        return b'J' + struct.pack('<i', value)
    return b'\x8a\x09' + value.to_bytes(9, 'little', signed=True)


def _global(rng):
    return b'c' + rng.choice(NAMES).replace(' ', '\n').encode() + b'\n'


def mutate_bytes(rng, data):
    """Return bytes of which some were changed, cut, repeated or overwritten by a length."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
            case 2:
                del data[place : place + rng.choice((1, 2, 8, 64))]
            case 3:
                size = rng.choice((1, 2, 4, 8))
                value = rng.choice(LENGTHS) % 2 ** (8 * size)
                data[place : place + size] = value.to_bytes(size, 'little')
            case 4:
                data[place:place] = data[place : place + rng.choice((1, 8, 64))]
            case 5 if rng.random() < 0.2:
                del data[place:]
    return bytes(data)
