# The largest model of Table 1 with weights, gradients and optimizer state spread over the GPUs.
_base_ = './cac-upernet_swin-l-384_8xb2-160k_ade20k-512x512.py'
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    # The third and fourth stage of the encoder are gathered each by itself, the rest as one. A head
    # must not be: it is asked for its loss, and only a module's `forward` gathers its weights.
    model_wrapper=dict(
        auto_wrap_policy=dict(
            type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy',
            min_num_params=50_000_000,
        )
    ),
    # One ordinary checkpoint, which `mim test` reads.
    state_dict_cfg='full',
)
