"""Item vectors, from which a quantizer makes codes: texts, behaviour, or both."""
