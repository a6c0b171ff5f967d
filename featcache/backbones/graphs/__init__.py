"""Networks in ONNX and OpenVINO files, which OpenVINO reads without Keras."""
