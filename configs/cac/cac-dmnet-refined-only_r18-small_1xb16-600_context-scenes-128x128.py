# Trains the refined classifier alone (Table 2 b), which removes CAC's delay on the context scenes.
# The prior and the oracle are not trained, so EvaluatedClassifierHook has only the refined to show.
_base_ = './cac-dmnet_r18-small_1xb16-600_context-scenes-128x128.py'
model = dict(decode_head=dict(loss_prior_weight=0, loss_oracle_weight=0, loss_kl=None))
