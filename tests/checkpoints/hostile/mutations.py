"""Mutations of pickles and of the files around them.

Each function takes a ``random.Random`` first, so that a seed gives the same files everywhere.
"""

import pickletools

LENGTHS = (
    *(0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 65535, 65536, 10**6, 10**8),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**31)),
)

TEXTS = (
    *('f8', 'f4', 'f16', 'i8', 'u1', 'b1', '?', 'c8', 'O', 'O8', '|O', 'V', 'V8', 'S8', 'U4', 'M8'),
    *('>f8', '=i4', 'i4,f8', '(2,3)f8', '(1000000000,)f8', 'object', '', '<', '>', '=', '|'),
    *('latin1', 'rot13', 'utf-8', 'mean', '__init__', '__globals__', 'cpu'),
)

# What a pickle may ask for, what it may ask for with us alone, and what it may never ask for.
NAMES = (
    *('collections OrderedDict', 'collections Counter', 'torch FloatStorage', 'torch Size'),
    *('torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter', '_codecs encode'),
    *('torch._tensor _rebuild_from_type_v2', 'torch._utils _rebuild_device_tensor_from_numpy'),
    *('numpy ndarray', 'numpy dtype', 'numpy float64', 'numpy frombuffer', 'numpy load'),
    *('numpy._core.multiarray _reconstruct', 'numpy._core.multiarray scalar'),
    *('numpy._core.numeric _frombuffer', 'builtins bytes', 'builtins getattr', 'builtins slice'),
    *('mmengine.logging.history_buffer HistoryBuffer', 'posix system', 'os system'),
    *('mmseg_ctx.checkpoints.stand_ins PickledArray', 'builtins eval', 'builtins exec'),
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
    b'cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xff'
    b'J\xff\xff\xff\xffK?tb',
    # An array and bytes without a buffer, larger than any memory.
    b'cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R',
    b'c__builtin__\nbytes\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R',
    b'c__builtin__\ngetattr\nc__builtin__\ngetattr\nX\x08\x00\x00\x00__self__\x86R',
    b'cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}(X\x12\x00\x00\x00statistics_methods'
    b'}X\x04\x00\x00\x00meanccollections\nOrderedDict\nsub',
    b'cmmengine.logging.history_buffer\nHistoryBuffer\n(K\x05K\x06tR',
    b'cposix\nsystem\nX\x0c\x00\x00\x00touch canary\x85R',
    b"c__builtin__\neval\nX\x13\x00\x00\x00open('canary', 'w')\x85R",
    # What a memo that is a list takes 4 GiB for, and lengths that nothing follows.
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
    """Return a pickle with up to eight operations changed, some to operations of other pickles."""
    parts, rest = operations(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _mutate(rng, parts, others)
    data = b''.join(parts) + rest
    return mutate_bytes(rng, data) if rng.random() < 0.1 else data


def insert_deep_key(rng, data):
    """Return a pickle with a dictionary in it whose key is a very deeply nested tuple."""
    parts, rest = operations(data)
    parts.insert(rng.randrange(2, len(parts)), DEEP_KEY)
    return b''.join(parts) + rest


def _mutate(rng, parts, others):
    """Change, insert, remove, repeat, swap or splice some of a pickle's operations in place."""
    place = rng.randrange(len(parts))
    kinds = 'argument', 'argument', 'gadget', 'code', 'drop', 'repeat', 'swap', 'splice'
    match rng.choice(kinds):
        case 'argument':
            codes = rng.choice((b'X\x8cU', b'KMJ\x8a', b'c', b'qrhj'))
            places = [i for i, part in enumerate(parts) if part[:1] in codes] or [place]
            place = rng.choice(places)
            parts[place] = _with_other_argument(rng, parts[place])
        case 'gadget':
            literals = [i for i, part in enumerate(parts) if part[:1] in b'KMJXUN\x88\x89\x8c\x8aG']
            place = rng.choice(literals or [place])
            parts[place : place + rng.choice((0, 1))] = [rng.choice(GADGETS)]
        case 'code':
            parts[place] = rng.choice(OPCODES) + parts[place][1:]
        case 'drop' if len(parts) > 1:
            del parts[place]
        case 'repeat':
            chunk = parts[place : place + rng.choice((1, 1, 2, 5, 20))]
            place = rng.choice((place, rng.randrange(len(parts))))
            parts[place:place] = chunk * rng.choice((1, 1, 2, 50))
        case 'swap':
            other = rng.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        case 'splice':
            theirs, _ = operations(rng.choice(others))
            start = rng.randrange(len(theirs))
            chunk = theirs[start : start + rng.choice((1, 5, 30))]
            parts[place : place + rng.choice((0, 1, 5))] = chunk


def _with_other_argument(rng, part):
    """Return an operation of the same kind with another text, number, name or place in the memo."""
    if part[:1] in (b'X', b'\x8c', b'U'):
        text = rng.choice(TEXTS).encode()
        return part[:1] + len(text).to_bytes(4 if part[:1] == b'X' else 1, 'little') + text
    if part[:1] == b'c':
        return b'c' + rng.choice(NAMES).replace(' ', '\n').encode() + b'\n'
    if part[:1] in (b'q', b'r', b'h', b'j'):
        if rng.random() < 0.3:
            place = rng.choice(LENGTHS) % 2**32
            return rng.choice((b'r', b'j')) + place.to_bytes(4, 'little')
        return rng.choice((b'q', b'h')) + rng.randbytes(1)
    return b'\x8a\x09' + rng.choice(LENGTHS).to_bytes(9, 'little', signed=True)


def mutate_bytes(rng, data):
    """Return bytes of which some were changed, cut, repeated or overwritten by a length."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[place:place] = rng.randbytes(rng.choice((1, 2, 8)))
            case 1:
                del data[place : place + rng.choice((1, 2, 8, 64))]
            case 2:
                size = rng.choice((1, 2, 4, 8))
                value = rng.choice(LENGTHS) % 2 ** (8 * size)
                data[place : place + size] = value.to_bytes(size, 'little')
            case 3:
                data[place:place] = data[place : place + rng.choice((1, 8, 64))]
            case 4 if rng.random() < 0.2:
                del data[place:]
    return bytes(data)
