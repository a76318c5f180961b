"""Relation graphs between the images of a batch, transport targets, and the losses over them (SHAMISA, §III-E to G).

Stop-gradient: graphs are made of features that are cut off from what computed them, unless the settings say otherwise.
Everything is computed in float32 outside autocast, or in float64 where that is given.
"""
