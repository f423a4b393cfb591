"""TMVA's tutorial on generation, line by line: digits from a tree, with the layouts and phases of an option string.

python examples/04_tmva_macro.py runs/tmva            ten to twenty minutes on a CPU core
python examples/04_tmva_macro.py runs/tmva 1 500      one epoch per phase and 500 test digits, for a quick look
"""

import logging
import sys

from hepgan.tmva import DataLoader, Factory, Types


def main(output: str, epochs: int = 120, test: int = 2000) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    loader = DataLoader("dataset", digits=True)
    loader.AddSignalTree("sample:mnist.root:mnist", 1.0)
    loader.AddVariablesArray("image", 784, "F")
    loader.PrepareTrainingAndTestTree(
        "", f"nTrain_Signal=0:nTest_Signal={test}:SplitMode=Random:NormMode=NumEvents:!V"
    )

    def phase(rate: str, last: int) -> str:
        return (
            f"MaxEpochs={last},LearningRate={rate},Momentum=0.5,Repetitions=1,ConvergenceSteps=100,"
            "BatchSize=64,TestRepetitions=10,Multithreading=False"
        )

    options = (
        "!H:V:ErrorStrategy=CROSSENTROPY:VarTransform=None:WeightInitialization=XAVIERUNIFORM"
        ":InputLayout=1|1|100##1|1|784:BatchLayout=64|1|100##64|1|784"
        ":Layout=RESHAPE|1|1|100|FLAT,DENSE|256|RELU,DENSE|512|RELU,DENSE|1024|RELU,DENSE|784|TANH"
        "##RESHAPE|1|1|784|FLAT,DENSE|512|RELU,DENSE|256|RELU,DENSE|1|SIGMOID"
        f":TrainingStrategy={phase('2e-3', epochs)}|{phase('2e-4', -(-epochs // 4))}:Architecture=CPU"
    )
    factory = Factory("TMVAGeneration", output, "!V:!Silent:Color:DrawProgressBar")
    factory.BookMethod(loader, Types.kGAN, "GAN", options)
    factory.TrainAllMethods()
    factory.TestAllMethods()
    for name, evaluation in factory.EvaluateAllMethods().items():
        print(f"{name}: {evaluation.verdict}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
